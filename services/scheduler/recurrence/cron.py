"""A cron line on a calendar without time zones. cronsim does the arithmetic."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache, cached_property

from cronsim import CronSim, CronSimError
from cronsim.explain import Expression

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
# cronsim takes a step behind a range of one number for one without an end, as in 5/2; cron does not.
_RANGE_OF_ONE = re.compile(r"\b(\w+)-\1/(?=[0-9]*[1-9])[0-9]+\b", re.IGNORECASE)
# cronsim spells no ordinal behind the ninth by its last figure.
_MISSPELT = re.compile(r"\b([2-5])([123])th\b")
_ENDINGS = {"1": "st", "2": "nd", "3": "rd"}
_LONGEST = 500
_ALL_HOURS = frozenset(range(24))
_SOME_DAY = datetime(2000, 1, 1)
# In the order of a cron line, as cronsim's errors name them.
_CRON_NAMES = ("minute", "hour", "day-of-month", "month", "day-of-week")


class _BothDays(CronSim):
    """Day of month and day of week must both match, as in Celery's crontab."""

    def match_day(self, d: date) -> bool:
        return self.match_dom(d) and self.match_dow(d)


@dataclass(frozen=True)
class CronLine:
    """Five fields. `both_days`: both day fields must match; else cron's own rule, which is mostly either."""

    text: str
    both_days: bool = False

    @classmethod
    def read(cls, given: object) -> "CronLine":
        """A line as cron knows it, or a nickname such as @daily. Raises InvalidSchedule."""
        if not isinstance(given, str) or len(given) > _LONGEST or not given.isascii():
            raise _refuse(f"must be a text of five fields in ASCII, of at most {_LONGEST} characters")
        text = _NICKNAMES.get(given.strip().lower()) or " ".join(given.split())
        line = cls(_RANGE_OF_ONE.sub(r"\1", text))
        if len(line.text.split()) != len(FIELDS):
            nicknames = ", ".join(_NICKNAMES)
            raise _refuse(f"must have five fields ({', '.join(_CRON_NAMES)}), or be one of {nicknames}")
        try:
            line.begin(_SOME_DAY)
        except CronSimError as exc:
            raise _refuse(_explain(line.text.split(), str(exc))) from exc
        return line._checked("cron")

    @classmethod
    def combine(cls, fields: tuple[str, ...]) -> "CronLine":
        """Of five fields that have been parsed, Celery's way. Raises InvalidSchedule where no day ever matches."""
        text = " ".join(field.spell(each) for field, each in zip(FIELDS, fields, strict=True))
        return cls(text, both_days=True)._checked("recurring_details")

    def _checked(self, name: str) -> "CronLine":
        try:
            found = any(self._sample.match_day(day) for day in _list_days() if day.month in self._sample.months)
        except CronSimError:  # cronsim looks for the plainest of such lines itself
            found = False
        if not found:
            raise InvalidSchedule([(name, f"can never fall due: no year has a day that matches {self.text}")])
        return self

    def next_after(self, wall: datetime) -> datetime | None:
        """The next match after `wall`, both without a zone; None where the calendar ends."""
        try:
            return next(self.begin(wall), None)
        except OverflowError:
            return None

    def begin(self, wall: datetime) -> CronSim:
        """What finds the matches after `wall`."""
        return (_BothDays if self.both_days else CronSim)(self.text, wall)

    @cached_property
    def _sample(self) -> CronSim:
        return self.begin(_SOME_DAY)

    @cached_property
    def every_hour(self) -> bool:
        """Whether no hour is left out: such a line follows real time."""
        return self._sample.hours == _ALL_HOURS

    @property
    def day_fields(self) -> str | None:
        """`both` or `either` must match; None where at most one of the two is set."""
        _, _, day_of_month, _, day_of_week = self.text.split()
        if "*" in (day_of_month, day_of_week):
            return None
        return "both" if self.both_days or self._sample.day_and else "either"

    def explain(self) -> str:
        """In English: "At 00:00 on the 1st day of January, April, July, and October"."""
        expression = Expression(self.text.upper().split())
        expression.day_and = expression.day_and or self.both_days
        return _MISSPELT.sub(_spell_ordinal, expression.explain())


def _spell_ordinal(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}{_ENDINGS[found[2]]}"


@cache
def _list_days() -> tuple[date, ...]:
    """Every kind of day there is: fourteen years, beginning on each weekday, with and without 29 February."""
    kinds = {(date(year, 1, 1).weekday(), date(year, 12, 31) - date(year, 1, 1)): year for year in range(2000, 2028)}
    return tuple(
        date(year, 1, 1) + timedelta(days=number)
        for (_, length), year in kinds.items()
        for number in range(length.days + 1)
    )


def _explain(fields: list[str], problem: str) -> str:
    """`problem` is cronsim's: "Bad day-of-month"."""
    name = problem.removeprefix("Bad ")
    if name not in _CRON_NAMES:
        return f"cannot be read: {problem}"
    position = _CRON_NAMES.index(name)
    if name == "day-of-month" and _is_readable([*fields[:3], "*", *fields[4:]]):  # but no month of the line has it
        return f"can never fall due: no year has a day that matches {' '.join(fields)}"
    return f"{name} {fields[position]!r} cannot be read: it takes {_describe(position)}"


def _is_readable(fields: list[str]) -> bool:
    try:
        CronSim(" ".join(fields), _SOME_DAY)
    except CronSimError:
        return False
    return True


def _describe(position: int) -> str:
    field = FIELDS[position]
    return f"numbers from {field.first} to {field.highest}, lists (2,4), ranges (2-4), steps (*/2) and *"


def _refuse(detail: str) -> InvalidSchedule:
    return InvalidSchedule([("cron", detail)])
