"""Requests of paced mail and their results wait for each other, and none is lost or forgotten meanwhile."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.gateway.company import Company
from services.gateway.lines import Observation
from services.gateway.observing import observe
from shared.batching import Record
from shared.events import BulkRequested, EmailFailed, EmailRequested, EmailSent, new_email_id

START = datetime(2026, 1, 1, tzinfo=UTC)
WAIT = timedelta(seconds=2)


def see(record: Record) -> list[Observation]:
    return observe(record, "cluster", 1_000_000)


def record(topic: str, value: bytes, offset: int, after_s: float) -> Record:
    at_ms = round((START.timestamp() + after_s) * 1000)
    headers = (("ce_type", b"email.sent"),) if topic == "email.sent" else ()
    return Record(topic, 0, offset, at_ms, value, headers)


def requests(*ids: UUID, offset: int = 7, paced: bool = True) -> list[Observation]:
    mails = [{"id": str(each), "to": "a@x.org"} for each in ids]
    event = {"bulk_id": str(new_email_id()), "from": "s@x.org", "subject": "s", "text": "t", "mails": mails}
    bulk = BulkRequested.model_validate({**event, "paced": paced})
    return see(record("email.requested", bulk.to_json(), offset, 0))


def result(email_id: UUID, after_s: float = 0.2, offset: int = 1, **more: Any) -> list[Observation]:
    said = {**more, "message_id": "<m@x.org>", "relay": "main", "response": "250 ok", "sent_at": START}
    outcomes = [{"address": "a@x.org", "state": "sent", "attempt": 1}]
    event = EmailSent.model_validate(
        {
            "id": email_id,
            "attempt": 1,
            "recipients": ["a@x.org"],
            "outstanding": 0,
            "complete": True,
            "outcomes": outcomes,
            "digest": "d",
            **said,
        }
    )
    return see(record("email.sent", event.to_json(), offset, after_s))


def paced_result(email_id: UUID, after_s: float = 0.2, offset: int = 1, **more: Any) -> list[Observation]:
    return result(email_id, after_s, offset, paced=True, **more)


def single_request() -> bytes:
    event = {"id": str(new_email_id()), "from": "s@x.org", "to": "a@x.org", "subject": "s", "text": "t"}
    return EmailRequested.model_validate(event).to_json()


def take(company: Company, seen: list[Observation]) -> list[Observation]:
    """What is written of it."""
    now, later = company.meet(seen)
    company.forget(now)
    company.keep(later)
    return now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_paced_mail_is_written_with_its_result() -> None:
    company = Company()
    one, other = new_email_id(), new_email_id()
    asked = requests(one, other)
    assert take(company, asked) == []
    told = result(one)
    assert take(company, told) == [*told, asked[0]]
    assert company.owed == {("email.requested", 0): 7}, "the other mail of the same record still waits"
    take(company, result(other))
    assert company.owed == {}


def test_the_body_of_what_waits_is_not_kept() -> None:
    single = {"id": str(new_email_id()), "from": "s@x.org", "to": "a@x.org", "subject": "s", "text": "t"}
    paced = EmailRequested.model_validate({**single, "paced": True}).to_json()
    waiting = requests(new_email_id(), new_email_id()) + see(record("email.requested", paced, 8, 0))
    assert all(each.waits and each.line.record.value is None for each in waiting)
    assert len({id(each.line.record) for each in waiting}) == 2, "one for all mails of an event"


def test_other_mail_does_not_wait() -> None:
    company = Company()
    single = see(record("email.requested", single_request(), 1, 0))
    bulk = requests(new_email_id(), paced=False)
    assert take(company, single + bulk) == single + bulk
    assert company.owed == {}


def test_a_result_that_comes_in_the_same_batch_leaves_nothing_waiting() -> None:
    company, email_id = Company(), new_email_id()
    seen = result(email_id) + requests(email_id)
    assert take(company, seen) == seen
    assert company.owed == {}


def test_a_result_that_is_read_before_its_request_waits_for_it() -> None:
    company, email_id = Company(), new_email_id()
    told = paced_result(email_id, offset=3)
    assert told[0].line.record.value is None
    assert take(company, told) == []
    assert company.owed == {("email.sent", 0): 3}
    assert take(company, told) == [], "the same record again changes nothing"
    asked = requests(email_id)
    assert take(company, asked) == [*asked, *told]
    assert company.owed == {}


def test_a_paced_mail_and_its_result_meet_in_one_batch() -> None:
    company, email_id, other = Company(), new_email_id(), new_email_id()
    seen = paced_result(email_id) + requests(email_id, other)
    assert take(company, seen) == seen[:2]
    assert company.owed == {("email.requested", 0): 7}


@pytest.mark.parametrize("more", [{"complete": False}, {"outstanding": 1, "complete": False}, {"digest": ""}])
def test_a_result_that_is_not_the_end_of_a_mail_does_not_wait(more: dict[str, Any]) -> None:
    company, email_id = Company(), new_email_id()
    told = paced_result(email_id, **more)
    assert take(company, told) == told
    assert company.owed == {}


def failure(email_id: UUID, **more: Any) -> list[Observation]:
    data = {"id": email_id, "attempt": 1, "recipients": [{"address": "a@x.org", "smtp_code": 550}], "final": True}
    said = {"reason": "rejected", "outstanding": 0, "complete": True, "digest": "d", "paced": True, **more}
    event = EmailFailed.model_validate({**data, **said})
    return see(Record("email.failed", 2, 5, 0, event.to_json(), (("ce_type", b"email.failed"),)))


def test_a_failure_of_paced_mail_waits_for_its_request_too() -> None:
    company, email_id = Company(), new_email_id()
    failed = failure(email_id)
    assert failed[0].line.record.value is None
    assert take(company, failed) == []
    assert company.owed == {("email.failed", 2): 5}
    asked = requests(email_id)
    assert take(company, asked) == [*asked, *failed]
    assert company.owed == {}


def test_two_results_of_one_mail_do_not_wait_for_its_request() -> None:
    company, email_id = Company(), new_email_id()
    sent, failed = paced_result(email_id), failure(email_id)
    assert take(company, sent) == []
    assert take(company, failed) == [*failed, *sent]
    assert company.owed == {}


def test_what_was_written_in_part_is_given_again_as_a_whole() -> None:
    company, email_id = Company(), new_email_id()
    asked, told = requests(email_id), paced_result(email_id)
    take(company, told)
    assert company.meet(asked)[0] == [*asked, *told]  # and PostgreSQL went away in the middle
    assert company.owed == {("email.sent", 0): 1}
    assert take(company, asked) == [*asked, *told]
    assert company.owed == {}


def test_the_result_of_a_later_attempt_does_not_wait() -> None:
    company, email_id = Company(), new_email_id()
    told = paced_result(email_id, attempt=2)
    assert take(company, told) == told


def test_a_result_waits_only_as_long_as_requests_of_its_time_may_come(clock: list[float]) -> None:
    company = Company(WAIT)
    take(company, see(record("email.requested", single_request(), 1, 0.0)))
    told = paced_result(new_email_id(), after_s=1.0)
    take(company, told)
    take(company, result(new_email_id(), after_s=9.0, offset=2))
    clock[0] += 1
    take(company, see(record("email.requested", single_request(), 2, 0.9)))
    assert company.find_due() == [], "its request may lie behind this one"
    take(company, see(record("email.requested", single_request(), 3, 1.0)))
    assert company.find_due() == told
    company.forget(told)
    assert company.owed == {}


def test_a_result_waits_for_requests_where_none_has_been_read_yet(clock: list[float]) -> None:
    company = Company(WAIT)
    told = paced_result(new_email_id())
    take(company, told)
    clock[0] += 2.9
    assert company.find_due() == []
    clock[0] += 0.1
    assert company.find_due() == told


def test_what_was_not_written_is_given_again() -> None:
    company, email_id = Company(), new_email_id()
    asked, told = requests(email_id), result(email_id)
    take(company, asked)
    assert company.meet(told)[0] == [*told, *asked]  # and PostgreSQL was away
    assert company.owed == {("email.requested", 0): 7}
    assert company.meet(asked)[0] == [], "the same record again changes nothing"
    assert take(company, told) == [*told, *asked]


def test_the_same_mail_asked_for_again_is_written_with_the_one_that_waits() -> None:
    company, email_id = Company(), new_email_id()
    first, again = requests(email_id), requests(email_id, offset=9)
    take(company, first)
    assert take(company, again) == [*again, *first]


def test_who_waits_in_vain_is_due(clock: list[float]) -> None:
    company, email_id = Company(WAIT), new_email_id()
    asked = requests(email_id)
    take(company, asked)
    clock[0] += 1.9
    assert company.find_due() == []
    clock[0] += 0.1
    assert company.find_due() == asked
    company.forget(asked)
    assert company.owed == {}


def test_behind_a_backlog_of_results_it_waits_for_longer_but_not_for_ever(clock: list[float]) -> None:
    company = Company(WAIT)
    asked = requests(new_email_id())
    take(company, asked)
    clock[0] += 5
    take(company, see(record("email.requested", single_request(), 8, 9.0)))
    take(company, result(new_email_id(), after_s=1.0))
    assert company.find_due() == [], "its own result may be among those not read yet"
    take(company, result(new_email_id(), after_s=2.0))
    assert company.find_due() == asked
    take(company, result(new_email_id(), after_s=1.0))
    assert company.find_due() == []
    clock[0] += 5
    take(company, result(new_email_id(), after_s=1.0))
    assert company.find_due() == asked


def test_batches_without_one_result_do_not_say_that_none_comes(clock: list[float]) -> None:
    company = Company(WAIT)
    asked = requests(new_email_id())
    take(company, asked)
    clock[0] += 2
    take(company, result(new_email_id(), after_s=1.0))
    for _ in range(5):
        clock[0] += 0.5
        take(company, see(record("email.requested", single_request(), 8, 9.0)))
        assert company.find_due() == []
    clock[0] += 0.5
    assert company.find_due() == asked, "three seconds of silence do"


def test_no_more_wait_than_fit(clock: list[float]) -> None:
    company = Company(WAIT, at_most=3)
    asked = requests(*[new_email_id() for _ in range(5)])
    take(company, asked)
    take(company, result(new_email_id(), after_s=0))
    assert company.find_due() == asked[:2]
