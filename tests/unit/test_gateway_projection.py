"""What is known of a mail, whatever the order in which it was learned."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.lines import Observation, find_earliest
from services.gateway.observing import observe
from services.gateway.projection import Mail, merge_all
from services.gateway.rows import line_to_row, mail_to_row, row_to_mail
from services.gateway.store import encode
from services.gateway.views import show_email, show_timeline
from shared.batching import Record
from shared.events import (
    EmailFailed,
    EmailRequested,
    EmailRescheduled,
    EmailSent,
    EventType,
    FailedRecipient,
    RecipientOutcome,
)
from shared.states import FailureReason, RecipientState

ID = UUID("01900000-0000-7000-8000-000000000001")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_offsets = itertools.count()


def put(topic: str, value: bytes, ce_type: str | None, after_s: float = 0, offset: int | None = None) -> Record:
    at = int((BEGAN + timedelta(seconds=after_s)).timestamp() * 1000)
    headers = (("ce_type", ce_type.encode()),) if ce_type else ()
    return Record(topic, 0, next(_offsets) if offset is None else offset, at, value, headers)


def requested(after_s: float = 0, **fields: Any) -> Record:
    body = {"id": str(ID), "from": "a@x.org", "to": ["b@y.org", "c@y.org"], "subject": "s", "html": "h", **fields}
    return put("email.requested", json.dumps(body).encode(), None, after_s)


def digest_of(record: Record) -> str:
    assert record.value
    return EmailRequested.model_validate_json(record.value).compute_digest()


def sent(attempt: int, *recipients: str, after_s: float, **fields: Any) -> Record:
    event = EmailSent(
        id=ID,
        attempt=attempt,
        recipients=list(recipients),
        message_id="<m@x.org>",
        relay="relay:25",
        response="250 2.0.0 Ok: queued",
        sent_at=BEGAN,
        outstanding=0,
        **fields,
    )
    return put("email.sent", event.to_json(), EventType.SENT, after_s)


def failed(attempt: int, *recipients: str, after_s: float, reason: FailureReason, final: bool, **fields: Any) -> Record:
    event = EmailFailed(
        **{"id": ID, **fields},
        attempt=attempt,
        recipients=[FailedRecipient(address=each, smtp_code=450, diagnostic="450 later") for each in recipients],
        reason=reason,
        final=final,
    )
    return put("email.failed", event.to_json(), EventType.FAILED, after_s)


def see(record: Record) -> Observation:
    (seen,) = observe(record, "cluster", 1024 * 1024)
    return seen


def project(*records: Record) -> Mail:
    mails = merge_all(seen.mail for record in records if (seen := see(record)).mail)
    assert list(mails) == [ID]
    return mails[ID]


def status_of(*records: Record) -> str:
    return project(*records).status.value


def show(mail: Mail) -> dict[str, Any]:
    return show_email(mail_to_row(mail, BEGAN.date(), 1)).model_dump(mode="json", by_alias=True, exclude_none=True)


ONE = requested(to="b@y.org")
STORY = [
    requested(),
    failed(1, "b@y.org", "c@y.org", after_s=1, reason=FailureReason.DEFERRED, final=False),
    sent(2, "b@y.org", after_s=2),
    failed(
        2,
        "c@y.org",
        after_s=2,
        reason=FailureReason.REJECTED,
        final=True,
        complete=True,
        outcomes=[
            RecipientOutcome(address="b@y.org", state=RecipientState.SENT, attempt=2),
            RecipientOutcome(address="c@y.org", state=RecipientState.FAILED, attempt=2),
        ],
    ),
]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(STORY), min_size=4, max_size=12).filter(lambda found: len({r.offset for r in found}) == 4)
)
def test_order_and_repetition_change_nothing(records: list[Record]) -> None:
    assert project(*records) == project(*STORY)


@settings(max_examples=100, deadline=None)
@given(st.permutations(STORY), st.integers(0, 4))
def test_merging_in_parts_through_the_store_changes_nothing(records: list[Record], cut: int) -> None:
    parts = [merge_all(see(each).mail for each in part) for part in (records[:cut], records[cut:])]  # type: ignore[misc]
    known: Mail | None = None
    for part in parts:
        if ID in part:
            merged = known.merge(part[ID]) if known else part[ID]
            row = json.loads(encode([mail_to_row(merged, BEGAN.date(), 1)]))[0]
            for name in ("created_at", "updated_at"):
                row[name] = datetime.fromisoformat(row[name])
            known = row_to_mail({"digest": None, **row, "id": ID})
    assert known == project(*STORY)


# Everything in which two records of one mail may contradict each other: content, times, digests, words.
NASTY = [
    requested(3, send_at="2026-03-01T00:00:00Z"),
    requested(1),
    requested(2, send_at="2026-02-01T00:00:00Z", expires_at="2026-04-01T00:00:00Z", api_key_id="b"),
    requested(2, subject="other", to="d@y.org", account="b"),
    sent(1, "b@y.org", "b@y.org", after_s=4, digest="2"),
    sent(1, "b@y.org", after_s=4, digest="1"),
    failed(1, "c@y.org", after_s=4, reason=FailureReason.REJECTED, final=True),
    failed(1, "z@y.org", "c@y.org", after_s=4, reason=FailureReason.EXPIRED, final=True, account="c"),
    sent(
        1,
        "a\0@y.org",
        after_s=4,
        outcomes=[
            RecipientOutcome(address="c@y.org", state=RecipientState.FAILED, attempt=1),
            RecipientOutcome(address="p@y.org", state=RecipientState.PENDING, attempt=1),
        ],
    ),
]


@settings(max_examples=100, deadline=None)
@given(st.permutations([*NASTY, *NASTY[:3]]), st.lists(st.integers(0, 12), max_size=4))
def test_contradictions_give_the_same_row_in_whatever_order_and_batches(records: list[Record], cuts: list[int]) -> None:
    assert _store_in_parts(records, sorted(cuts)) == _store_in_parts(NASTY, [])


def _store_in_parts(records: list[Record], cuts: list[int]) -> dict[str, Any]:
    row: dict[str, Any] | None = None
    for start, end in itertools.pairwise([0, *cuts, len(records)]):
        for mail in merge_all(see(each).mail for each in records[start:end]).values():  # type: ignore[misc]
            merged = row_to_mail(row).merge(mail) if row else mail
            row = {"digest": None, **json.loads(encode([mail_to_row(merged, BEGAN.date(), 1)]))[0], "id": ID}
            row |= {name: datetime.fromisoformat(row[name]) for name in ("created_at", "updated_at")}
    assert row
    return row


@settings(max_examples=50, deadline=None)
@given(st.permutations([requested(1), requested(0, send_at="2026-02-01T00:00:00Z"), *STORY]))
def test_of_equal_lines_the_earliest_counts(records: list[Record]) -> None:
    lines = {line.event_id: line.record for line in find_earliest(see(each).line for each in records)}
    assert len(lines) == 5
    assert lines[see(STORY[0]).line.event_id] is STORY[0]


def test_the_story_ends_partially_sent() -> None:
    shown = show(project(*STORY))
    assert (shown["status"], shown["attempts"], shown["complete"]) == ("partially_sent", 2, True)
    first, second = shown["recipients"]
    assert (first["address"], first["state"], first["response"]) == ("b@y.org", "sent", "250 2.0.0 Ok: queued")
    assert (second["state"], second["reason"], second["response"]) == ("failed", "rejected", "450 later")


@pytest.mark.parametrize(
    ("records", "status"),
    [
        ([requested()], "queued"),
        ([requested(send_at="2026-02-01T00:00:00Z")], "scheduled"),
        ([requested(priority="bulk")], "scheduled"),
        ([requested(send_at="2026-02-01T00:00:00Z"), requested(1)], "queued"),
        (STORY[:2], "deferred"),
        ([ONE, sent(1, "b@y.org", after_s=1)], "sent"),
        (
            [
                requested(to="b@y.org", send_at="2026-02-01T00:00:00Z"),
                failed(0, "b@y.org", after_s=1, reason=FailureReason.CANCELLED, final=True),
            ],
            "cancelled",
        ),
        (
            [requested(to="b@y.org"), failed(1, "b@y.org", after_s=1, reason=FailureReason.EXPIRED, final=True)],
            "expired",
        ),
        (
            [requested(to="b@y.org"), failed(1, "b@y.org", after_s=1, reason=FailureReason.UNKNOWN, final=False)],
            "unknown",
        ),
        ([failed(0, after_s=1, reason=FailureReason.INVALID_REQUEST, final=True)], "failed"),
        ([sent(1, "b@y.org", after_s=1, complete=True)], "sent"),
    ],
)
def test_status(records: list[Record], status: str) -> None:
    for order in itertools.permutations(records):
        assert status_of(*order) == status


def test_a_late_deferral_does_not_undo_sent() -> None:
    assert status_of(*STORY[:1], sent(2, "b@y.org", "c@y.org", after_s=5), STORY[1]) == "sent"


def test_an_unreadable_record_under_a_live_id_does_not_fail_the_mail() -> None:
    refused = failed(0, after_s=1, reason=FailureReason.INVALID_REQUEST, final=True)
    assert status_of(requested(), refused) == "queued"


def test_of_two_contents_the_one_in_the_ledger_counts() -> None:
    first, second = requested(), requested(1, subject="other", to="d@y.org")
    assert show(project(second, first))["subject"] == "s"
    result = sent(1, "d@y.org", after_s=2, digest=digest_of(second))
    for order in itertools.permutations([first, second, result]):
        shown = show(project(*order))
        assert shown["subject"] == "other"
        assert [each["address"] for each in shown["recipients"]] == ["d@y.org"]
        assert shown["status"] == "sent"


def test_a_conflict_is_named_in_the_timeline() -> None:
    records = [requested(), requested(1, subject="other")]
    mail = project(*records)
    shown = show_timeline(mail_to_row(mail, BEGAN.date(), 1), [line_row(each) for each in records])
    assert [event.detail and event.detail.partition(":")[0] for event in shown.events] == [None, "conflict"]


def test_the_timeline_tells_holding_and_release_and_hides_other_accounts() -> None:
    held, released = requested(send_at="2026-02-01T00:00:00Z"), requested(1)
    stranger = put("email.requested", json.dumps({"id": str(ID), "cancel": True, "account": "b"}).encode(), None, 3)
    row = mail_to_row(project(held, released), BEGAN.date(), 1)
    shown = show_timeline(row, [line_row(each) for each in (stranger, released, held)])
    assert [event.detail for event in shown.events] == ["waits for its time", "released"]


def test_the_same_request_three_times_is_one_line() -> None:
    assert len({see(requested(n)).line.event_id for n in range(3)}) == 1


def test_within_one_attempt_sent_stands_before_what_failed() -> None:
    lines = [line_row(each) for each in reversed(STORY)]
    shown = show_timeline(mail_to_row(project(*STORY), BEGAN.date(), 1), lines)
    assert [event.type for event in shown.events] == ["email.requested", "email.failed", "email.sent", "email.failed"]


def test_a_cancellation_makes_no_mail() -> None:
    record = put("email.requested", json.dumps({"id": str(uuid4()), "cancel": True}).encode(), None)
    assert see(record).mail is None


@pytest.mark.parametrize(
    "record",
    [
        put("email.requested", b"not json", None),
        put("email.requested", b'{"from": "a@x.org"}', None),
        put("email.requested", b"", None),
        put("email.requested", b'{"x": 1}', "somebody.elses"),
        put("email.failed", b'{"reason": "invalid_request", "final": true}', EventType.FAILED),
    ],
)
def test_what_says_nothing_of_a_mail_is_passed_over(record: Record) -> None:
    assert observe(record, "cluster", 1024) == []


def test_every_mail_of_a_bulk_event_is_seen_as_if_it_had_come_alone() -> None:
    content = {"from": "a@x.org", "subject": "Hi {{ name }}", "text": "t", "tags": ["spring"], "batch_id": "b7"}
    mails = [{"id": str(UUID(int=n)), "to": f"u{n}@y.org", "variables": {"name": str(n)}} for n in range(3)]
    bulk = {**content, "bulk_id": str(ID), "mails": mails, "priority": "bulk"}
    seen = observe(put("email.requested", json.dumps(bulk).encode(), None, offset=7), "cluster", 1024 * 1024)
    for observed, mail in zip(seen, mails, strict=True):
        alone = {**content, **mail, "to": [mail["to"]], "priority": "bulk"}
        expected = see(put("email.requested", json.dumps(alone).encode(), None, offset=7))
        assert observed.mail == expected.mail
        assert observed.line.event_id == expected.line.event_id
        assert observed.mail
        assert observed.mail.status == "scheduled"


def test_a_mail_without_id_gets_its_identity_from_its_place() -> None:
    value = b'{"from": "a@x.org", "to": "b@y.org", "subject": "s", "text": "t"}'
    ids = [see(put("email.requested", value, None, offset=offset)).line.email_id for offset in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


def test_bodies_do_not_reach_the_rows() -> None:
    record = requested(html="SECRETBODY", text="SECRETBODY", attachments=[{"filename": "f", "content": "U0VDUkVU"}])
    row = mail_to_row(project(record), BEGAN.date(), 1)
    assert "SECRETBODY" not in encode([row, line_row(record)])
    assert "U0VDUkVU" not in encode([row, line_row(record)])


def line_row(record: Record) -> dict[str, Any]:
    return line_to_row(see(record).line, BEGAN.date())


def test_no_result_brings_an_account_that_an_index_cannot_hold() -> None:
    for record in (
        sent(1, "b@y.org", after_s=1, account="a" * 9000),
        failed(1, "b@y.org", after_s=1, reason=FailureReason.REJECTED, final=True, account="a" * 9000),
    ):
        (observed,) = observe(record, "cluster", 1024 * 1024)
        assert observed.mail
        assert len(observed.mail.account) == 64


def test_a_new_time_is_a_line_of_the_timeline_and_makes_no_mail() -> None:
    ten = datetime(2026, 1, 1, 10, tzinfo=UTC)
    event = EmailRescheduled(id=ID, send_at=ten, rescheduled_at=BEGAN)
    seen = see(put("email.requested", event.to_json(), EventType.RESCHEDULED, after_s=1))
    assert seen.mail is None
    row = mail_to_row(project(requested(send_at="2026-01-01T09:00:00Z")), BEGAN.date(), 1)
    timeline = show_timeline(row, [line_to_row(each.line, BEGAN.date()) for each in (seen, see(requested()))])
    assert [(each.type, each.send_at) for each in timeline.events] == [("email.requested", None), (seen.line.type, ten)]
    assert show_email({**row, "moved_to": "2026-01-01T10:00:00.000Z"}).send_at == ten
