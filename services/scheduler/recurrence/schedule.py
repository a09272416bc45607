"""A schedule: when something falls due, once or again and again."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from services.scheduler.recurrence.cron import CronLine
from services.scheduler.recurrence.errors import InvalidSchedule
from services.scheduler.recurrence.intervals import RecurringInterval
from services.scheduler.recurrence.reading import Given, read
from services.scheduler.recurrence.wall_clock import next_due

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Schedule:
    """A line in a zone, or one instant (`run_at`). `one_off`: its next due time and no other. Bounds are inclusive."""

    zone: ZoneInfo
    line: CronLine | None = None
    run_at: datetime | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    one_off: bool = False

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

        ONE_OFF goes with each of them. Times without an offset are the zone's. Raises InvalidSchedule with everything
        that is wrong.
        """
        given = read(Given(recurring_interval, recurring_details, cron, timezone, run_at, start_at, end_at))
        one_off = given.line is None or given.interval is RecurringInterval.ONE_OFF
        schedule = cls(given.zone, given.line, given.run_at, given.start_at, given.end_at, one_off)
        schedule._check_bounds()
        return schedule

    def _check_bounds(self) -> None:
        """Raise InvalidSchedule where nothing can fall due between `start_at` and `end_at`."""
        if self.end_at is None and self.run_at is None:
            return
        if self.start_at and self.end_at and self.start_at > self.end_at:
            raise InvalidSchedule([("end_at", "lies before start_at")])
        begin = self.start_at or _BEGINNING
        if self.next_after(begin - _MOMENT) is None:
            name = "run_at" if self.run_at else "end_at"
            raise InvalidSchedule([(name, "leaves no due time between start_at and end_at")])

    def next_after(self, instant: datetime) -> datetime | None:
        """The first due time after an instant (UTC), strictly; None where there is none any more."""
        if instant.tzinfo is None:
            raise ValueError("an instant has an offset")
        after = instant.astimezone(UTC)
        if self.start_at and self.start_at > after:
            after = self.start_at - _MOMENT
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
        """What it became, for an answer: which of the day fields must match (`both`, `either`), and it in English."""
        if self.line is None:
            return {"run_at": self.run_at.isoformat() if self.run_at else None, "timezone": self.zone.key}
        text = self.line.explain()
        return {
            "cron": self.line.text,
            "timezone": self.zone.key,
            "day_fields": self.line.day_fields,
            "text": f"Once: {text[0].lower()}{text[1:]}" if self.one_off else text,
        }
