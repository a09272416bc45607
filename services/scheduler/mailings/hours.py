"""Daily hours on a recipient's own clock: the next window in which mail may arrive. Pure.

Days when the clocks change follow the rule of recurrence: a time that does not exist is the first instant after the
gap, one that occurs twice is the first of the two. A window that lies in a gap as a whole does not exist that day. From
its start to its end a window is never interrupted, even where the clocks are set back to before its start.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

from services.scheduler.recurrence.errors import InvalidSchedule
from services.scheduler.recurrence.wall_clock import find_instant, show
from services.scheduler.recurrence.zones import load_zone

_DAY = timedelta(days=1)


class Window(NamedTuple):
    """From `start` to before `end`, both UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Hours:
    """When of a day mail may arrive, on the recipient's own clock; `zone` for those whose own is not known.

    From `start` to before `end`. Where `end` is not after `start`, the window goes on past midnight.
    """

    start: time
    end: time
    zone: str = "UTC"

    def to_json(self) -> dict[str, str]:
        """As it is kept and told."""
        return {"from": f"{self.start:%H:%M}", "to": f"{self.end:%H:%M}", "timezone": self.zone}

    @classmethod
    def from_json(cls, kept: Mapping[str, str]) -> Self:
        """From what `to_json` made."""
        return cls(time.fromisoformat(kept["from"]), time.fromisoformat(kept["to"]), kept["timezone"])

    def next_window(self, after: datetime, zone: str | None = None) -> Window | None:
        """The window of a recipient in this zone that `after` lies in, from `after` on, or else the next one.

        None at the end of the calendar. A zone that nobody knows (any more) counts as none.
        """
        try:
            window = next(each for each in self._list_windows(after, self._load(zone)) if each.end > after)
        except OverflowError:
            return None
        return Window(max(window.start, after.astimezone(UTC)), window.end)

    def _load(self, zone: str | None) -> ZoneInfo:
        try:
            return load_zone(zone or self.zone)
        except InvalidSchedule:
            return load_zone(self.zone)

    def _list_windows(self, after: datetime, zone: ZoneInfo) -> Iterator[Window]:
        """Every window that is not over well before `after`, in order; never one that is empty."""
        yesterday = show(after, zone).date() - _DAY
        for day in (yesterday + _DAY * number for number in count()):
            window = self._open(day, zone)
            if window.start < window.end:
                yield window

    def _open(self, day: date, zone: ZoneInfo) -> Window:
        """The window that begins on this day."""
        last = day if self.start < self.end else day + _DAY
        return Window(
            find_instant(datetime.combine(day, self.start), zone), find_instant(datetime.combine(last, self.end), zone)
        )
