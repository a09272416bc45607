"""What the scheduler keeps of a mail, and what it answers for one that it does not give back."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from services.scheduler.failures import describe_cancelled, describe_unreadable, to_message
from services.scheduler.waiting.delayed import Expiry, delay, merge
from shared.events import Coordinates, EmailRequested, UnreadableEvent, open_record

MAIL_ID = UUID("018f3a5e-7c00-7000-8000-000000000001")
RECEIVED = datetime(2026, 5, 1, 12, tzinfo=UTC)
EXPIRY = Expiry(timedelta(hours=72), timedelta(days=7))


def build(**fields: Any) -> EmailRequested:
    return EmailRequested.model_validate(
        {"id": str(MAIL_ID), "from": "a@x.org", "to": ["b@y.org", "c@y.org"], "subject": "s", "text": "t"} | fields
    )


def stored(event: EmailRequested, limit: int = 1_000_000) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(delay(event, RECEIVED, None, EXPIRY, limit).event)
    return value


def test_what_is_stored_no_longer_belongs_to_the_scheduler_and_carries_its_id_and_expiry() -> None:
    mail = delay(build(send_at="2026-05-02T09:00:00+02:00", priority="bulk"), RECEIVED, None, EXPIRY, 1_000_000)
    assert not open_record(mail.event, None).belongs_to_scheduler
    data = orjson.loads(mail.event)
    assert data["id"] == str(MAIL_ID)
    assert "send_at" not in data
    assert "priority" not in data
    assert mail.due_at == datetime(2026, 5, 2, 7, tzinfo=UTC)
    assert datetime.fromisoformat(data["expires_at"]) == mail.due_at + timedelta(hours=72)


def test_the_content_is_stored_unchanged() -> None:
    event = build(send_at="2026-05-02T09:00:00Z", html="<b>ü</b>", metadata={"k": [1, None]}, tags=["a"])
    assert EmailRequested.model_validate(stored(event)).compute_digest() == event.compute_digest()


def test_bulk_mail_without_send_at_is_due_when_its_record_was_written() -> None:
    assert delay(build(priority="bulk"), RECEIVED, None, EXPIRY, 1_000_000).due_at == RECEIVED


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("2026-05-03T00:00:00Z", datetime(2026, 5, 3, tzinfo=UTC)),
        ("2027-01-01T00:00:00Z", datetime(2026, 5, 9, 9, tzinfo=UTC)),
    ],
)
def test_an_expiry_of_the_publisher_is_kept_up_to_seven_days_after_release(wanted: str, expected: datetime) -> None:
    data = stored(build(send_at="2026-05-02T09:00:00Z", expires_at=wanted))
    assert datetime.fromisoformat(data["expires_at"]) == expected


def test_a_time_that_is_long_over_means_at_once_and_not_expired() -> None:
    event = build(send_at="2020-01-01T00:00:00Z")
    assert delay(event, RECEIVED, None, EXPIRY, 1_000_000).due_at == event.send_at
    assert datetime.fromisoformat(stored(event)["expires_at"]) == RECEIVED + timedelta(hours=72)


def test_a_mail_that_grows_beyond_the_limit_is_refused() -> None:
    with pytest.raises(UnreadableEvent, match="the limit is 5000"):
        stored(build(send_at="2026-05-02T09:00:00Z", text="x" * 4950), limit=5000)


def test_of_mails_with_one_id_the_first_wins_and_ids_are_sorted() -> None:
    other = UUID("018f3a5e-7c00-7000-8000-000000000000")
    mails = [
        delay(build(priority="bulk", id=mail_id, subject=subject), RECEIVED, None, EXPIRY, 1_000_000)
        for mail_id, subject in ((MAIL_ID, "first"), (other, "other"), (MAIL_ID, "second"))
    ]
    assert merge(mails) == [mails[1], mails[0]]


def test_a_cancelled_mail_ends_completely_and_identically_each_time_it_is_told() -> None:
    mail = build(send_at="2026-05-02T09:00:00Z", metadata={"order": 7}, callback="https://x.org/?a=1")
    failed = describe_cancelled(mail, RECEIVED)
    assert failed.final
    assert failed.complete
    assert failed.outstanding == 0
    assert [(each.address, each.state.value) for each in failed.outcomes or []] == [
        ("b@y.org", "failed"),
        ("c@y.org", "failed"),
    ]
    assert (failed.metadata, failed.callback) == ({"order": 7}, "https://x.org/?a=1")
    message = to_message(failed, "email.failed", None)
    again = to_message(describe_cancelled(mail, RECEIVED), "email.failed", None)
    assert message.key == str(MAIL_ID).encode()
    assert message.value == again.value
    assert dict(message.headers)["ce_id"] == dict(again.headers)["ce_id"]


def test_an_unreadable_mail_is_told_with_its_coordinates_and_without_the_id_it_claims() -> None:
    record = Coordinates("email.requested", 3, 17, 1_700_000_000_123)
    error = UnreadableEvent([{"detail": "missing", "pointer": "/subject"}])
    failed = describe_unreadable(error, {"id": str(MAIL_ID), "account": "shop"}, record)
    message = to_message(failed, "email.failed", None, record)
    data = orjson.loads(message.value)
    assert "id" not in data
    assert message.key is None
    assert data["source"] == {"topic": "email.requested", "partition": 3, "offset": 17}
    assert data["errors"] == error.errors
    assert data["account"] == "shop"


def test_an_account_that_is_none_is_not_repeated() -> None:
    record = Coordinates("email.requested", 0, 0, 0)
    assert describe_unreadable(UnreadableEvent([]), {"account": "a\r\nb"}, record).account == "default"
