"""What a row of django_celery_beat says about time, as the fields of a task. Pure.

Celery's own parser has read the crontabs: a row's `schedule` holds the numbers that each field means.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

_MINUTE, _HOUR, _DAY, _WEEK = 1, 60, 24 * 60, 7 * 24 * 60
_FIELDS = {"minute": 60, "hour": 24, "day_of_month": 31, "month_of_year": 12, "day_of_week": 7}
# What means the same to every cron; anything else is written as numbers.
_PLAIN = re.compile(r"(\*|(?P<start>\d+)-(?P<end>\d+))(/\d+)?|\d+")


class Unmappable(Exception):
    """Milena has no task that would be the same; the message says why."""


class Over(Exception):
    """There is nothing left for a task to do; the message says why."""


def map_schedule(row: Any, now: datetime) -> dict[str, Any]:
    """The fields that say when a PeriodicTask is due. Raises Unmappable, Over."""
    if row.crontab:
        return map_crontab(row.crontab, one_off=row.one_off)
    if row.interval:
        return _map_interval(row)
    if row.clocked:
        return _map_clocked(row.clocked.clocked_time, now)
    if row.solar:
        raise Unmappable("nothing here follows the sun")
    raise Unmappable("it has no schedule")


def map_crontab(crontab: Any, *, one_off: bool) -> dict[str, Any]:
    """A cron line; or, where both day fields are set, an interval with details: there both must match, as in Celery."""
    parsed = crontab.schedule
    fields = {name: _spell(getattr(crontab, name), getattr(parsed, name), size) for name, size in _FIELDS.items()}
    zone = {"timezone": str(getattr(parsed, "tz", None) or parsed.app.timezone)}
    once = {"recurring_interval": "ONE_OFF"} if one_off else {}
    if "*" in (fields["day_of_month"], fields["day_of_week"]):
        return {**once, "cron": " ".join(fields.values()), **zone}
    if not one_off:  # a longer interval would take a field that is left open for midnight
        fields |= {name: "*/1" for name in ("minute", "hour") if fields[name] == "*"}
        once = {"recurring_interval": "EVERY_MONTH" if fields["month_of_year"] == "*" else "EVERY_YEAR"}
    return {**once, "recurring_details": fields, **zone}


def _spell(text: str, numbers: set[int], size: int) -> str:
    if len(numbers) == size:
        return "*"
    parts = [_PLAIN.fullmatch(part.strip()) for part in str(text).split(",")]
    if all(part and (part["start"] is None or int(part["start"]) < int(part["end"])) for part in parts):
        return ",".join(part.group() for part in parts if part)
    return ",".join(map(str, sorted(numbers)))


def _map_interval(row: Any) -> dict[str, Any]:
    """Spaced exactly alike, so in UTC. From an hour on, in step with its last run (or its start)."""
    every = timedelta(**{row.interval.period: row.interval.every})
    if row.one_off:
        raise Unmappable("once after an interval is no time; give it a clocked schedule")
    minutes, rest = divmod(every, timedelta(minutes=1))
    if rest or not minutes:
        raise Unmappable(f"every {row.interval.every} {row.interval.period}: tasks are due at full minutes")
    step = (row.last_run_at or row.start_time or datetime(2026, 1, 5, tzinfo=UTC)).astimezone(UTC)
    if minutes < _HOUR and _HOUR % minutes == 0:
        line = f"{'*' if minutes == _MINUTE else f'*/{minutes}'} * * * *"
    elif minutes % _HOUR == 0 and _DAY % minutes == 0:
        line = f"{step.minute} {_list_hours(step.hour, minutes // _HOUR)} * * *"
    elif minutes == _WEEK:
        line = f"{step.minute} {step.hour} * * {step.isoweekday() % 7}"
    else:
        why = "no cron line has this spacing (those that have: parts of an hour or of a day, a day, a week)"
        raise Unmappable(f"every {row.interval.every} {row.interval.period}: {why}")
    return {"cron": line, "timezone": "UTC"}


def _list_hours(hour: int, every: int) -> str:
    if every == 1:
        return "*"
    hours = range(hour % every, 24, every)
    return f"*/{every}" if hour % every == 0 and len(hours) > 1 else ",".join(map(str, hours))


def _map_clocked(moment: datetime, now: datetime) -> dict[str, Any]:
    if moment <= now:
        raise Over(f"its time, {moment:%Y-%m-%d %H:%M}, is over")
    return {"run_at": moment.astimezone(UTC).isoformat()}
