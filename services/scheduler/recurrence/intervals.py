"""The intervals: which fields each one takes, and what it puts where a field is left `*`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.scheduler.recurrence.details import RecurringDetails
from services.scheduler.recurrence.errors import InvalidSchedule
from services.scheduler.recurrence.fields import FIELDS


class RecurringInterval(StrEnum):
    """How often a task recurs."""

    ONE_OFF = "ONE_OFF"
    EVERY_MINUTE = "EVERY_MINUTE"
    EVERY_HOUR = "EVERY_HOUR"
    EVERY_DAY = "EVERY_DAY"
    EVERY_WEEK = "EVERY_WEEK"
    EVERY_MONTH = "EVERY_MONTH"
    EVERY_QUARTER = "EVERY_QUARTER"
    EVERY_YEAR = "EVERY_YEAR"

    @classmethod
    def read(cls, given: object) -> "RecurringInterval":
        """Raises InvalidSchedule, listing what there is."""
        if isinstance(given, str) and given in cls.__members__:
            return cls(given)
        raise InvalidSchedule([("recurring_interval", f"must be one of {', '.join(cls)}")])


@dataclass(frozen=True)
class _Rule:
    defaults: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


_MIDNIGHT = {"minute": "0", "hour": "0"}
_DAY_FIELDS = ("day_of_month", "month_of_year", "day_of_week")

_RULES = {
    RecurringInterval.ONE_OFF: _Rule(),
    RecurringInterval.EVERY_MINUTE: _Rule(refused=("minute", "hour", *_DAY_FIELDS)),
    RecurringInterval.EVERY_HOUR: _Rule({"minute": "0"}, ("hour", *_DAY_FIELDS)),
    RecurringInterval.EVERY_DAY: _Rule(_MIDNIGHT, _DAY_FIELDS),
    RecurringInterval.EVERY_WEEK: _Rule(_MIDNIGHT | {"day_of_week": "1"}, ("day_of_month", "month_of_year")),
    RecurringInterval.EVERY_MONTH: _Rule(_MIDNIGHT | {"day_of_month": "1"}, ("month_of_year",)),
    RecurringInterval.EVERY_QUARTER: _Rule(_MIDNIGHT | {"day_of_month": "1", "month_of_year": "1,4,7,10"}),
    RecurringInterval.EVERY_YEAR: _Rule(_MIDNIGHT | {"day_of_month": "1", "month_of_year": "1"}),
}
# The shortest interval that takes a field.
_SHORTEST = {
    "minute": RecurringInterval.EVERY_HOUR,
    "hour": RecurringInterval.EVERY_DAY,
    "day_of_week": RecurringInterval.EVERY_WEEK,
    "day_of_month": RecurringInterval.EVERY_MONTH,
    "month_of_year": RecurringInterval.EVERY_QUARTER,
}


def complete(interval: RecurringInterval, details: RecurringDetails) -> tuple[str, ...]:
    """The five fields of the interval, in the order of a cron line: what was given wins, defaults fill what is `*`.

    Raises InvalidSchedule for fields that this interval does not take.
    """
    rule = _RULES[interval]
    given = details.to_dict()
    errors = [
        (
            f"recurring_details/{name}",
            f'must be "*" with {interval}; to set it, take {_SHORTEST[name]} or longer, or cron',
        )
        for name in rule.refused
        if given[name] != "*"
    ]
    if errors:
        raise InvalidSchedule(errors)
    return tuple(given[each.name] if given[each.name] != "*" else rule.defaults.get(each.name, "*") for each in FIELDS)
