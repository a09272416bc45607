"""A schedule: when something falls due, once or again and again."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from services.scheduler.recurrence.cron import CronLine
from services.scheduler.recurrence.details import RecurringDetails
from services.scheduler.recurrence.errors import InvalidSchedule
from services.scheduler.recurrence.intervals import RecurringInterval, complete
from services.scheduler.recurrence.wall_clock import find_instant, next_due
from services.scheduler.recurrence.zones import load_zone

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Schedule:
    """Either a line in a zone (`one_off`: its next match and no other), or one instant. Bounds are inclusive."""

    zone: ZoneInfo
    line: CronLine | None
    run_at: datetime | None
    start_at: datetime | None
    end_at: datetime | None
    one_off: bool

    @classmethod
    def build(
        cls,
        recurring_interval: object = None,
        recurring_details: object = None,
        cron: object = None,
        timezone: object = "UTC",
        run_at: datetime | None = None,
        start_at: datetime | None = None,
        end_at: datetime | None = None,
    ) -> "Schedule":
        """Read what a user gave: an interval with its details, or a cron line, or `run_at`.

        Times without an offset are the zone's. Raises InvalidSchedule with everything that is wrong.
        """
        zone = load_zone(timezone)
        interval = None if recurring_interval is None else RecurringInterval.read(recurring_interval)
        one_off = interval is RecurringInterval.ONE_OFF or run_at is not None
        line = None
        if cron is not None:
            line = CronLine.read(cron)
        elif run_at is None:
            if interval is None:
                raise InvalidSchedule([("recurring_interval", "is needed, or cron, or run_at")])
            line = CronLine.combine(complete(interval, RecurringDetails.read(recurring_details)))
        run_at, start_at, end_at = (_place(each, zone) for each in (run_at, start_at, end_at))
        return cls(zone, line, run_at, start_at, end_at, one_off)

    def next_after(self, instant: datetime) -> datetime | None:
        """The first due time after an instant (UTC), strictly; None where there is none any more."""
        if instant.tzinfo is None:
            raise ValueError("an instant has an offset")
        after = instant.astimezone(UTC)
        if self.start_at:
            after = max(after, self.start_at - _INSTANT)
        due = self._find(after)
        return None if due is None or (self.end_at and due > self.end_at) else due

    def _find(self, after: datetime) -> datetime | None:
        if self.line is not None:
            return next_due(self.line, self.zone, after)
        return self.run_at if self.run_at and self.run_at > after else None

    def upcoming(self, after: datetime, count: int) -> list[datetime]:
        """The next due times after an instant, up to `count`; one at most where it runs once."""
        found: list[datetime] = []
        while len(found) < (min(count, 1) if self.one_off else count):
            due = self.next_after(found[-1] if found else after)
            if due is None:
                break
            found.append(due)
        return found

    def describe(self) -> dict[str, str | None]:
        """What it became: `cron` or `run_at`, `timezone`, and whether `both` or `either` of the day fields must match."""
        described: dict[str, str | None] = {"timezone": self.zone.key}
        if self.line is None:
            return {"run_at": self.run_at.isoformat() if self.run_at else None, **described}
        return {"cron": self.line.text, **described, "days": self.line.days}


def _place(moment: datetime | None, zone: ZoneInfo) -> datetime | None:
    if moment is None:
        return None
    return find_instant(moment.replace(fold=0), zone) if moment.tzinfo is None else moment.astimezone(UTC)
