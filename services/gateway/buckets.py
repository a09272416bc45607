"""Which day's partition a mail lies in, so that a look-up by bare id reads one partition. Pure.

The day is read off a UUIDv7 id where its time is plausible for the record it came with. Ids may be anybody's, so one
that claims the year 3000 gets no partition of its own: that one's day, and that of every other kind of id, is the day
of the first record seen of it, and stands in the locator.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from uuid import UUID

_BEFORE, _AFTER = timedelta(days=90), timedelta(days=1)
_EPOCH, _MICROSECOND, _DAY_US = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1), 86_400_000_000
_AHEAD = 7  # days of partitions beyond the newest record's


def read_day(email_id: UUID) -> date | None:
    """The day in a UUIDv7 id, None for other kinds and for times no calendar has."""
    moment = read_time(email_id)
    return moment.date() if moment else None


def read_time(email_id: UUID) -> datetime | None:
    """The time in a UUIDv7 id (RFC 9562 §5.7)."""
    if email_id.version != 7:
        return None
    try:
        return datetime.fromtimestamp((email_id.int >> 80) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def find_own_bucket(email_id: UUID, recorded_at: datetime) -> date | None:
    """The bucket the id itself tells, None where the locator has to."""
    number = email_id.int
    if number >> 76 & 0xF != 7 or number >> 62 & 0b11 != 0b10:
        return None
    earliest, latest = _find_bounds(recorded_at)
    time_us = (number >> 80) * 1000
    return _find_day(time_us // _DAY_US) if earliest < time_us < latest else None


@lru_cache(maxsize=1000)
def _find_bounds(recorded_at: datetime) -> tuple[int, int]:
    """Between which times, in microseconds, an id's is plausible; the records of a batch share one."""
    recorded = recorded_at - _EPOCH
    return (recorded - _BEFORE) // _MICROSECOND, (recorded + _AFTER) // _MICROSECOND


@lru_cache(maxsize=1000)
def _find_day(number: int) -> date:
    return _EPOCH.date() + timedelta(days=number)


def days_ahead(recorded_at: datetime) -> list[date]:
    """The days there should be partitions for when records of this time arrive."""
    return [recorded_at.date() + timedelta(days=offset) for offset in range(-1, _AHEAD + 1)]
