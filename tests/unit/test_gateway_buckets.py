"""Which day a mail lies in."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.gateway.buckets import days_ahead, find_own_bucket, read_day
from shared.events import new_email_id

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def uuid7_at(moment: datetime) -> UUID:
    millis = int(moment.timestamp() * 1000)
    return UUID(int=(millis << 80) | (7 << 76) | (2 << 62) | 5)


@pytest.mark.parametrize(
    ("age", "own"),
    [
        (timedelta(), True),
        (timedelta(days=89), True),
        (timedelta(days=91), False),
        (timedelta(hours=-23), True),
        (timedelta(days=-2), False),
    ],
)
def test_an_id_tells_its_day_while_its_time_is_plausible(age: timedelta, own: bool) -> None:
    email_id = uuid7_at(NOW - age)
    assert find_own_bucket(email_id, NOW) == ((NOW - age).date() if own else None)


def test_other_ids_tell_nothing() -> None:
    assert read_day(uuid4()) is None
    assert find_own_bucket(uuid4(), NOW) is None


def test_a_time_beyond_every_calendar_is_no_day() -> None:
    assert read_day(UUID("ffffffff-ffff-7000-8000-000000000000")) is None


def test_our_own_ids_tell_today() -> None:
    assert abs((read_day(new_email_id()) or date.min) - datetime.now(UTC).date()) <= timedelta(days=1)


def test_partitions_are_made_for_the_week_ahead() -> None:
    assert days_ahead(NOW)[0] == date(2026, 2, 28)
    assert days_ahead(NOW)[-1] == date(2026, 3, 8)
