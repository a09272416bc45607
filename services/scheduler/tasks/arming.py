"""When a task is due next, as its definition and the clock say. Pure: `now` is an argument, PostgreSQL's clock.

A task is armed by its next due time. Only the past ever makes due times missed: arming looks forward from `now`, so
no edit fires what lies behind it.
"""

from datetime import datetime
from functools import lru_cache
from typing import Protocol

import orjson

from services.scheduler.recurrence import Schedule
from services.scheduler.tasks.task import Task, TaskDefinition, Timing


class Recurring(Protocol):
    """What arming and firing need of a schedule."""

    @property
    def one_off(self) -> bool:
        """Whether it ends with its first run."""

    def next_after(self, instant: datetime) -> datetime | None:
        """The first due time after an instant, None: never again."""


def build_schedule(timing: Timing) -> Schedule:
    """The schedule of a task. Raises InvalidSchedule."""
    details = timing.recurring_details
    times = (timing.run_at, timing.start_at, timing.end_at)
    written = None if details is None else orjson.dumps(dict(details), option=orjson.OPT_SORT_KEYS)
    return _build(timing.recurring_interval, written, timing.cron, timing.timezone, *times)


@lru_cache(maxsize=10_000)
def _build(
    interval: str | None,
    details: bytes | None,
    cron: str | None,
    timezone: str,
    run_at: datetime | None,
    start_at: datetime | None,
    end_at: datetime | None,
) -> Schedule:
    return Schedule.build(
        recurring_interval=interval,
        recurring_details=None if details is None else orjson.loads(details),
        cron=cron,
        timezone=timezone,
        run_at=run_at,
        start_at=start_at,
        end_at=end_at,
    )


def arm(definition: TaskDefinition, now: datetime) -> datetime | None:
    """The next due time of a task that has just been made, enabled, or given another schedule."""
    return build_schedule(definition.timing).next_after(now) if definition.enabled else None


def keeps_due_time(before: Task, after: TaskDefinition) -> bool:
    """Whether an edit leaves the next due time alone.

    So a change of arguments does not cost the run that falls due in this moment. One that has ended is armed again
    by any edit.
    """
    was = before.definition
    return was.enabled and after.enabled and was.timing == after.timing and before.next_due_at is not None
