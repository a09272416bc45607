"""A cron line on a calendar without time zones. cronsim does the arithmetic."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache

from cronsim import CronSim, CronSimError

from services.scheduler.recurrence.errors import InvalidSchedule
from services.scheduler.recurrence.fields import FIELDS

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_LONGEST = 500
_ALL_HOURS = frozenset(range(24))


class _BothDays(CronSim):
    """Day of month and day of week must both match, as in Celery's crontab."""

    def match_day(self, d: date) -> bool:
        return self.match_dom(d) and self.match_dow(d)


@dataclass(frozen=True, slots=True)
class CronLine:
    """Five fields. `both_days`: both day fields must match; otherwise cron's own rule, which is mostly either."""

    text: str
    both_days: bool

    @classmethod
    def read(cls, given: object) -> "CronLine":
        """A line as cron knows it, or a nickname such as @daily. Raises InvalidSchedule."""
        if not isinstance(given, str) or len(given) > _LONGEST:
            raise _refuse(f"must be a text of five fields, at most {_LONGEST} characters")
        text = _NICKNAMES.get(given.strip().lower()) or " ".join(given.split())
        if len(text.split()) != len(FIELDS):
            known = ", ".join(_NICKNAMES)
            raise _refuse(f"must have five fields (minute, hour, day of month, month, day of week), or be one of {known}")
        line = cls(text, both_days=False)
        try:
            CronSim(text, datetime(2000, 1, 1))
        except CronSimError as exc:
            raise _refuse(_explain(text, str(exc))) from exc
        line.check("cron")
        return line

    @classmethod
    def combine(cls, fields: tuple[str, ...]) -> "CronLine":
        """Of five fields that have been read, Celery's way. Raises InvalidSchedule where no day ever matches."""
        line = cls(" ".join(_spell(*each) for each in zip(FIELDS, fields, strict=True)), both_days=True)
        line.check("recurring_details")
        return line

    def check(self, name: str) -> None:
        """Raise InvalidSchedule where no day of any year matches."""
        try:
            simulation = self._begin(datetime(2000, 1, 1))
            if any(each.month in simulation.months and simulation.match_day(each) for each in _list_all_kinds_of_days()):
                return
        except CronSimError:
            pass
        raise InvalidSchedule([(name, f"can never fall due: no year has a day that matches {self.text}")])

    def next_after(self, wall: datetime) -> datetime | None:
        """The next match after `wall`, both without a zone; None where the calendar ends."""
        try:
            return next(self._begin(wall), None)
        except (OverflowError, ValueError):
            return None

    @property
    def every_hour(self) -> bool:
        """Whether no hour is left out: such a line follows real time."""
        return self._begin(datetime(2000, 1, 1)).hours == _ALL_HOURS

    @property
    def days(self) -> str | None:
        """`both` or `either` must match, None where at most one of the day fields is set."""
        _, _, day_of_month, _, day_of_week = self.text.split()
        if "*" in (day_of_month, day_of_week):
            return None
        both = self.both_days or self._begin(datetime(2000, 1, 1)).day_and
        return "both" if both else "either"

    def _begin(self, wall: datetime) -> CronSim:
        return (_BothDays if self.both_days else CronSim)(self.text, wall)


@cache
def _list_all_kinds_of_days() -> tuple[date, ...]:
    """Fourteen years, all the kinds there are: beginning on each weekday, with and without 29 February."""
    years = {(date(year, 1, 1).weekday(), date(year, 12, 31).timetuple().tm_yday): year for year in range(2000, 2028)}
    return tuple(day for year in years.values() for day in _list_days(year))


def _list_days(year: int) -> Iterator[date]:
    day = date(year, 1, 1)
    while day.year == year:
        yield day
        day += timedelta(days=1)


def _spell(field: object, text: str) -> str:
    return text


def _explain(text: str, problem: str) -> str:
    return f"cannot be read: {problem}"


def _refuse(detail: str) -> InvalidSchedule:
    return InvalidSchedule([("cron", detail)])
