"""From the wall's clock to instants: the rule for the days when the clocks change.

A time that does not exist is the first instant after the gap; one that occurs twice is the first of the two. A line
that leaves no hour out follows real time instead: it falls due whenever the wall's clock shows a match.
"""

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from services.scheduler.recurrence.cron import CronLine

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


def list_instants(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """The instants at which the clocks of a zone show `wall`: one, or none in a gap, or two."""
    both = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return sorted({each for each in both if show(each, zone) == wall})


def show(instant: datetime, zone: ZoneInfo) -> datetime:
    """What the clocks of a zone show at an instant."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def find_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The one instant that is meant by a wall's time."""
    existing = list_instants(wall, zone)
    if existing:
        return existing[0]
    before, after = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    return _find_change(before, after, zone)


def next_due(line: CronLine, zone: ZoneInfo, after: datetime) -> datetime | None:
    """The first instant after `after` at which a line falls due in a zone, both UTC; None where the calendar ends."""
    try:
        return _next_real(line, zone, after) if line.every_hour else _next_fixed(line, zone, after)
    except OverflowError:
        return None


def _next_fixed(line: CronLine, zone: ZoneInfo, after: datetime) -> datetime | None:
    wall = line.next_after(show(after, zone))
    while wall and (instant := find_instant(wall, zone)) <= after:
        wall = line.next_after(wall)
    return instant if wall else None


def _next_real(line: CronLine, zone: ZoneInfo, after: datetime) -> datetime | None:
    ahead = _next_shown(line, zone, after)
    repeated = _next_repeated(line, zone, after)
    return min((each for each in (ahead, repeated) if each), default=None)


def _next_shown(line: CronLine, zone: ZoneInfo, after: datetime) -> datetime | None:
    """The first instant after `after` at which the clocks show a match that is later than what they show at `after`."""
    wall = line.next_after(show(after, zone))
    while wall:
        for instant in list_instants(wall, zone):
            if instant > after:
                return instant
        wall = line.next_after(wall)
    return None


def _next_repeated(line: CronLine, zone: ZoneInfo, after: datetime) -> datetime | None:
    """The first match that is shown again because the clocks are set back within a day."""
    later = after + _DAY
    if _offset(later, zone) >= _offset(after, zone):
        return None
    change = _find_change(after, later, zone)
    wall = line.next_after(show(change, zone) - _SECOND)
    instants = [each for each in list_instants(wall, zone) if each >= change] if wall else []
    return instants[0] if instants else None


def _find_change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The instant between two at which the offset becomes that of the later one."""
    start = before.replace(microsecond=0)
    settled = _offset(after, zone)
    seconds = range(int((after - start).total_seconds()) + 1)
    found = bisect_left(seconds, True, key=lambda each: _offset(start + timedelta(seconds=each), zone) == settled)
    return start + timedelta(seconds=found)


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None, "a ZoneInfo always has an offset"
    return offset
