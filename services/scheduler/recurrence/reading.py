"""What a user gave for a schedule, read as a whole: what goes together, and all that is wrong with it at once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

from services.scheduler.recurrence.cron import CronLine
from services.scheduler.recurrence.details import RecurringDetails
from services.scheduler.recurrence.errors import InvalidSchedule
from services.scheduler.recurrence.intervals import RecurringInterval, complete
from services.scheduler.recurrence.wall_clock import find_instant
from services.scheduler.recurrence.zones import load_zone

T = TypeVar("T")

_FIRST_YEAR = 1970


@dataclass(frozen=True, slots=True)
class Given:
    """The arguments of Schedule.build, unread."""

    recurring_interval: object
    recurring_details: object
    cron: object
    timezone: object
    run_at: datetime | None
    start_at: datetime | None
    end_at: datetime | None


@dataclass(frozen=True, slots=True)
class Read:
    """The same, read."""

    zone: ZoneInfo
    interval: RecurringInterval | None
    line: CronLine | None
    run_at: datetime | None
    start_at: datetime | None
    end_at: datetime | None


class _Errors:
    """Everything that is wrong, in the order in which it is found."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def catch(self, read: Callable[..., T], *arguments: object) -> T | None:
        """What `read` gives, None where it refuses."""
        try:
            return read(*arguments)
        except InvalidSchedule as exc:
            self.found += exc.errors
            return None

    def settle(self) -> None:
        """Raise what was found."""
        if self.found:
            raise InvalidSchedule(self.found)


def read(given: Given) -> Read:
    """Raises InvalidSchedule."""
    errors = _Errors()
    errors.found += _find_conflicts(given)
    zone = errors.catch(load_zone, given.timezone)
    interval, details = _read_interval(given, errors)
    line = errors.catch(CronLine.read, given.cron) if given.cron is not None else None
    moments = [
        errors.catch(_place, name, getattr(given, name), zone) for name in ("run_at", "start_at", "end_at") if zone
    ]
    errors.settle()
    assert zone is not None, "without a zone there is an error"
    if given.cron is None and given.run_at is None and interval and details:
        line = CronLine.combine(complete(interval, details))
    return Read(zone, interval, line, *moments)


def _read_interval(given: Given, errors: _Errors) -> tuple[RecurringInterval | None, RecurringDetails | None]:
    interval = None
    if given.recurring_interval is not None:
        interval = errors.catch(RecurringInterval.read, given.recurring_interval)
    return interval, errors.catch(RecurringDetails.read, given.recurring_details)


def _find_conflicts(given: Given) -> list[tuple[str, str]]:
    """A schedule is one of three things."""
    if given.cron is None and given.run_at is None:
        if given.recurring_interval is None:
            detail = f"is needed (one of {', '.join(RecurringInterval)}), or else cron, or run_at"
            return [("recurring_interval", detail)]
        return []
    instead = "cron" if given.cron is not None else "run_at"
    found = []
    if given.cron is not None and given.run_at is not None:
        found.append(("run_at", "cannot stand beside cron: the one recurs, the other is one time"))
    if given.recurring_interval not in (None, RecurringInterval.ONE_OFF):
        found.append(("recurring_interval", f"cannot stand beside {instead}; only ONE_OFF can"))
    if given.recurring_details:
        found.append(("recurring_details", f"cannot stand beside {instead}"))
    return found


def _place(name: str, moment: datetime | None, zone: ZoneInfo) -> datetime | None:
    if moment is None:
        return None
    try:
        placed = moment.astimezone(UTC) if moment.tzinfo else find_instant(moment.replace(fold=0), zone)
    except OverflowError:
        placed = None
    if placed is None or placed.year < _FIRST_YEAR:
        raise InvalidSchedule([(name, f"must be a time from {_FIRST_YEAR} to 9999")])
    return placed
