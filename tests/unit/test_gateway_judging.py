"""Whether a row follows from the records, and whether a mail waits for too long."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.dossiers import Dossier, open_dossier, strip, unpack
from services.gateway.gathering import Gathering
from services.gateway.judging import Stored, Window, find_differences, find_overdue, find_state
from services.gateway.lines import find_earliest
from services.gateway.observing import observe
from services.gateway.projection import merge_all
from services.gateway.reconciling import Report
from services.gateway.reports import describe_report
from services.gateway.rows import mail_to_row
from services.gateway.store import encode
from shared.batching import Record
from shared.events import EmailRescheduled
from shared.topics import Topics
from tests.support.states import JUNK, TELLERS, failed, request

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ID = UUID(int=1)
LIMIT = 1024 * 1024
PLACES = [("email.requested", 0), ("email.sent", 0), ("email.failed", 0)]
ALL = Window(dict.fromkeys(PLACES, 0), dict.fromkeys(PLACES, 1000))


def lay(*puts: tuple[str, str | None, bytes], first: int = 0) -> list[Record]:
    """Records, each a second after the other."""
    records = []
    for offset, (topic, _, value) in enumerate(puts, first):
        headers = () if topic == "requested" else (("ce_type", f"email.{topic}".encode()),)
        at = int((BEGAN + timedelta(seconds=offset)).timestamp() * 1000)
        records.append(Record(f"email.{topic}", 0, offset, at, value, headers))
    return records


def derive(records: list[Record]) -> Dossier:
    """As reconcile does: through what it keeps."""
    gathering = Gathering(Topics(), "cluster", LIMIT)
    gathering.take(records)
    return gathering.find(ID)


def store(records: list[Record]) -> Stored:
    """As the worker does."""
    seen = [observed for record in records for observed in observe(record, "cluster", LIMIT)]
    mail = merge_all(each.mail for each in seen if each.mail).get(ID)
    lines = find_earliest(each.line for each in seen)
    row = None
    if mail:
        row = {"digest": None, "topic": None, **json.loads(encode([mail_to_row(mail, BEGAN.date(), 1)]))[0], "id": ID}
        times = ("created_at", "updated_at", "recorded_at")
        row |= {name: datetime.fromisoformat(row[name]) for name in times if row.get(name)}
    return Stored(row, {each.event_id: (each.record.topic, 0, each.record.offset) for each in lines})


def tell(state: str) -> list[Record]:
    return lay(*TELLERS[state](str(ID)))


@pytest.mark.parametrize("state", TELLERS)
def test_what_the_worker_stores_follows_from_the_records(state: str) -> None:
    dossier, stored = derive(tell(state)), store(tell(state))
    assert find_differences(dossier, stored, dossier, ALL) == []
    mail = find_state(dossier, stored, ALL)
    assert mail
    assert mail.status.value == ("sent" if state == "rivals" else state)


@settings(max_examples=100, deadline=None)
@given(st.permutations([each for state in TELLERS for each in TELLERS[state](str(ID))]))
def test_what_is_kept_of_a_mail_adds_up_as_the_mail_does(puts: list[Any]) -> None:
    records = lay(*puts)
    seen = [observed for record in records for observed in observe(record, "cluster", LIMIT)]
    whole = merge_all(each.mail for each in seen if each.mail)[ID]
    dossier = derive(records)
    assert dossier.mail == strip(whole)
    assert (dossier.mail.status, dossier.mail.complete) == (whole.status, whole.complete)
    assert dossier.lines == {each.line.event_id for each in seen}
    assert unpack(dossier.pack(), ID) == dossier


def test_a_mail_takes_little_room() -> None:
    assert len(derive(tell("sent")).pack()) < 500


def test_a_row_or_a_line_that_is_missing_is_named() -> None:
    records = tell("sent")
    dossier, stored = derive(records), store(records)
    (found,) = find_differences(dossier, Stored(None, stored.lines), dossier, ALL)
    assert found == "it has no row in the read model"
    line = min(stored.lines)
    rest = {event_id: place for event_id, place in stored.lines.items() if event_id != line}
    (found,) = find_differences(dossier, Stored(stored.row, rest), dossier, ALL)
    assert found == f"its timeline lacks 1 of 2 events ({line})"


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("status", "queued", "by the records it is sent, in the read model queued"),
        ("complete", False, "its completeness differ from the records"),
        ("attempts", 9, "its attempts differ from the records"),
        ("digest", "0", "its contents differ from the records"),
        ("subject", "garbled", "its sender, recipients, subject or tags differ from its record"),
        ("sender", "evil@example.org", "its sender, recipients, subject or tags differ from its record"),
        ("recipients", [], "its recipients differ from the records"),
        ("recipients", [{"address": 3}], "its row cannot be read"),
        ("recipients", 7, "its row cannot be read"),
    ],
)
def test_a_row_changed_by_hand_is_named(column: str, value: Any, said: str) -> None:
    records = tell("sent")
    dossier, stored = derive(records), store(records)
    assert stored.row
    found = find_differences(dossier, Stored({**stored.row, column: value}, stored.lines), dossier, ALL)
    assert said in found


def test_a_row_that_lags_differs_until_it_has_caught_up() -> None:
    records = tell("sent")
    dossier = derive(records)
    assert len(find_differences(dossier, store(records[:1]), dossier, ALL)) == 2
    assert find_differences(dossier, store(records), dossier, ALL) == []


def test_a_row_that_is_ahead_is_right_once_the_newer_records_are_read() -> None:
    records = tell("sent")
    before, after, stored = derive(records[:1]), derive(records), store(records)
    read = Window(ALL.firsts, dict.fromkeys(PLACES, 1))
    assert find_differences(before, stored, before, read) == ["by the records it is queued, in the read model sent"]
    assert find_differences(before, stored, after, ALL) == []


def test_a_line_no_record_tells_is_named() -> None:
    records = tell("sent")
    dossier, stored = derive(records), store(records)
    strange = uuid4()
    lines = {**stored.lines, strange: ("email.sent", 0, 5)}
    (found,) = find_differences(dossier, Stored(stored.row, lines), dossier, ALL)
    assert found == f"its timeline has 1 events that no record tells ({strange})"


def test_what_lies_before_what_was_read_is_believed() -> None:
    records = lay(request(str(ID)), failed(str(ID), "deferred", "a@x.org", "b@x.org", final=False))
    later = lay(request(str(ID)), first=2)
    read = Window(dict.fromkeys(PLACES, 2), dict.fromkeys(PLACES, 1000))
    dossier, stored = derive(later), store([*records, *later])
    assert find_differences(dossier, stored, dossier, read) == []
    mail = find_state(dossier, stored, read)
    assert mail
    assert mail.status.value == "deferred"
    (found, *_) = find_differences(dossier, stored, dossier, ALL)
    assert "no record tells" in found


def overdue(state: str, after_s: float, *more: Any, patience_s: float = 30) -> float | None:
    dossier = derive(lay(*TELLERS[state](str(ID)), *more))
    assert dossier.mail
    age = find_overdue(dossier.mail, dossier, BEGAN + timedelta(seconds=after_s), timedelta(seconds=patience_s))
    return None if age is None else age.total_seconds()


def test_a_queued_mail_may_wait_for_a_while() -> None:
    assert overdue("queued", 30) is None
    assert overdue("queued", 31) == 31


@pytest.mark.parametrize("state", ["scheduled", "deferred"])
def test_a_mail_that_waits_for_its_time_is_overdue_only_after_it(state: str) -> None:
    hour_ahead = (datetime.now(UTC) - BEGAN).total_seconds() + 3600
    assert overdue(state, hour_ahead - 5) is None
    age = overdue(state, hour_ahead + 60)
    assert age is not None
    assert 59 < age < 70


def test_a_released_mail_waits_from_its_release() -> None:
    past = request(str(ID), send_at="2025-12-31T00:00:00Z")
    assert overdue("queued", 35, past) == 35
    dossier = derive(lay(past, request(str(ID), subject="s"), first=0))
    assert dossier.mail
    assert find_overdue(dossier.mail, dossier, BEGAN + timedelta(seconds=31), timedelta(seconds=30)) is None


@pytest.mark.parametrize("state", ["sent", "partially_sent", "failed", "cancelled", "expired", "unknown"])
def test_what_has_an_outcome_waits_for_nothing(state: str) -> None:
    assert overdue(state, 10**9) is None


def test_only_requests_that_nobody_can_read_expect_an_answer() -> None:
    gathering = Gathering(Topics(), "cluster", LIMIT)
    records = lay(*JUNK)
    unknown = Record("email.requested", 0, 90, 0, b"{}", (("ce_type", b"somebody.elses"),))
    gathering.take([*records, unknown])
    assert sorted(gathering.unreadable) == [(0, 0), (0, 1)]
    source = {"topic": "email.requested", "partition": 0, "offset": 1}
    gathering.take(lay(failed(None, "invalid_request", source=source), failed(None, "rejected", source=source)))
    assert gathering.answered == {(0, 1)}


def test_an_invalid_request_that_got_an_id_is_no_accepted_mail() -> None:
    (observed,) = observe(lay(failed(str(ID), "invalid_request", complete=True))[0], "cluster", LIMIT)
    mail = open_dossier(observed).mail
    assert mail
    assert (mail.requests, mail.refused) == ((), True)


def test_a_long_list_of_faults_is_cut_and_counted() -> None:
    report = Report()
    for number in range(500):
        report.blame(str(number), "why")
    lines = list(describe_report(report))
    assert len(report.named) == 100
    assert sum(line.startswith("FAULT") for line in lines) == 20
    assert lines[-2:] == ["… and 480 more", "500 faults"]


def move(email_id: str, send_at: datetime, at_s: float, offset: int) -> Record:
    """The scheduler's word that a mail has got another time."""
    event = EmailRescheduled(id=UUID(email_id), send_at=send_at, rescheduled_at=BEGAN + timedelta(seconds=at_s))
    headers = (("ce_type", b"email.rescheduled"),)
    at = int((BEGAN + timedelta(seconds=at_s)).timestamp() * 1000)
    return Record("email.requested", 0, offset, at, event.to_json(), headers)


def test_a_mail_that_was_moved_waits_until_the_time_it_was_moved_to_last() -> None:
    hour, day = BEGAN + timedelta(hours=1), BEGAN + timedelta(days=1)
    asked = lay(request(str(ID), send_at=hour.isoformat()))
    later, sooner = move(str(ID), day, 5, 1), move(str(ID), BEGAN + timedelta(minutes=1), 9, 2)
    after = [derive([*asked, *moves]) for moves in ([], [later], [sooner, later], [later, sooner])]
    waits = [
        find_overdue(each.mail, each, BEGAN + timedelta(hours=2), timedelta(minutes=1)) for each in after if each.mail
    ]
    assert waits == [timedelta(hours=1), None, timedelta(minutes=119), timedelta(minutes=119)]
    assert all(len(each.lines) == 1 + n for each, n in zip(after, (0, 1, 2, 2), strict=True))
