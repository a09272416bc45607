"""Spans of time in which mails are counted, and how many of them one answer may have. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from shared.ranges import check_range, refuse_range

POINT_LIMIT = 1500
MINUTES_KEPT = timedelta(days=7)
_FIRST_YEAR, _LAST_YEAR = 1970, 9999  # with room to reckon in both directions


class Resolution(StrEnum):
    """How long a span is; spans begin at full minutes, hours or days of UTC."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def step(self) -> timedelta:
        """The length of a span."""
        return timedelta(**{f"{self.value}s": 1})


_USUAL = {Resolution.MINUTE: timedelta(hours=1), Resolution.HOUR: timedelta(days=1), Resolution.DAY: timedelta(days=30)}


@dataclass(frozen=True, slots=True)
class Range:
    """Whole spans: from the beginning of the first up to, not including, the end of the last."""

    since: datetime
    until: datetime
    resolution: Resolution

    def list_starts(self) -> Iterator[datetime]:
        """The beginning of each span, the earliest first."""
        step = self.resolution.step
        for number in range((self.until - self.since) // step):
            yield self.since + number * step


def choose_range(since: datetime | None, until: datetime | None, resolution: Resolution, now: datetime) -> Range:
    """The spans that have part in a range of time; up to now, and the last hour, day or 30 days, where none is given.

    Raises Problem 422 where they are too many, or no longer kept.
    """
    check_range(since, until)
    for name, moment in (("from", since), ("to", until)):
        if moment and not _FIRST_YEAR <= moment.year < _LAST_YEAR:
            raise refuse_range(f"lies outside the years {_FIRST_YEAR} to {_LAST_YEAR - 1}", name)
    step = resolution.step
    end = until or max(now, since or now)
    last = _floor(end, step)
    last = last if last == end and since != end else last + step
    first = _floor(since, step) if since else last - _USUAL[resolution]
    if resolution is Resolution.MINUTE and first < _floor(now - MINUTES_KEPT, step):
        detail = f"minutes are kept for {MINUTES_KEPT.days} days; ask for resolution=hour before that"
        raise refuse_range(detail, "from")
    points = (last - first) // step
    if points > POINT_LIMIT:
        detail = f"the range has {points} spans of a {resolution}, and an answer up to {POINT_LIMIT}"
        way_out = "ask for a shorter one" if resolution is Resolution.DAY else "ask for a shorter one, or longer spans"
        raise refuse_range(f"{detail}: {way_out}", "from" if since else "to")
    return Range(first, last, resolution)


def _floor(moment: datetime, step: timedelta) -> datetime:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (moment - midnight) // step * step
