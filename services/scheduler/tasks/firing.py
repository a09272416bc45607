"""What a task that has fallen due is to do: run, or pass over what was missed. Pure: clocks are arguments.

One task fires once at most each time it is looked at, so nothing that lies behind can become a storm of runs.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.scheduler.tasks.arming import Recurring
from services.scheduler.tasks.task import Misfire


@dataclass(frozen=True, slots=True)
class Look:
    """When tasks are looked at, by PostgreSQL's clock.

    `since`: the time of the last look, where nobody was away in between; what fell due after it was not missed, even
    where the clock says it is long ago: then the clock was set.
    """

    now: datetime
    since: datetime | None
    misfire_after: timedelta

    def has_missed(self, due_at: datetime) -> bool:
        """Whether nobody was there at that due time."""
        was_there = self.since is not None and due_at > self.since
        return not was_there and self.now - due_at > self.misfire_after


@dataclass(frozen=True, slots=True)
class Firing:
    """What becomes of a task: the due time it runs for, one it has missed without a run, and when it is due next."""

    run_for: datetime | None
    missed: datetime | None
    next_due_at: datetime | None


def fire(due_at: datetime, schedule: Recurring, misfire: Misfire, look: Look) -> Firing:
    """Decide about a task that was due at `due_at`, not after `look.now`.

    Of several due times that lie behind, the first stands for all. With `skip` those nobody was there for are passed
    over, and only one that has just come still runs.
    """
    if misfire is Misfire.SKIP and look.has_missed(due_at):
        recent = schedule.next_after(look.now - look.misfire_after)
        if recent is None or recent > look.now:
            return Firing(None, due_at, recent)
        return Firing(recent, due_at, _find_next(recent, schedule, look.now))
    return Firing(due_at, None, _find_next(due_at, schedule, look.now))


def _find_next(ran_for: datetime, schedule: Recurring, now: datetime) -> datetime | None:
    return None if schedule.one_off else schedule.next_after(max(ran_for, now))


class Watch:
    """Knows since when this process has looked at tasks without being away.

    Away is whoever let more than `patience` pass by the monotonic clock, which nobody sets: the process stood still,
    or PostgreSQL was out of reach.
    """

    def __init__(self, patience: timedelta) -> None:
        self._patience_s = patience.total_seconds()
        self._last: tuple[datetime, float] | None = None

    def look(self, now: datetime, monotonic_s: float, misfire_after: timedelta) -> Look:
        """A look at PostgreSQL's `now`."""
        last, self._last = self._last, (now, monotonic_s)
        since = last[0] if last and monotonic_s - last[1] <= self._patience_s else None
        return Look(now, since, misfire_after)
