"""Which day's partition a mail lies in, so that a look-up by bare id reads one partition. Pure.

The day is read off a UUIDv7 id where its time is plausible for the record it came with. Ids may be anybody's, so one
that claims the year 3000 gets no partition of its own: that one's day, and that of every other kind of id, is the day
of the first record seen of it, and stands in the locator.
"""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

_BEFORE, _AFTER = timedelta(days=90), timedelta(days=1)
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
    moment = read_time(email_id)
    if moment and recorded_at - _BEFORE < moment < recorded_at + _AFTER:
        return moment.date()
    return None


def days_ahead(recorded_at: datetime) -> list[date]:
    """The days there should be partitions for when records of this time arrive."""
    return [recorded_at.date() + timedelta(days=offset) for offset in range(-1, _AHEAD + 1)]
