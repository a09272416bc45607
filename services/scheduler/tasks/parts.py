"""What of tasks runs in the scheduler's worker: firing them, telling of it, and deleting old history."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from services.scheduler.runs.settings import TaskSettings
from services.scheduler.tasks.tick_store import TICKS, TickStore
from services.scheduler.tasks.ticking import Firer, Ticker, TickPublisher
from shared.cleaning import Chore
from shared.database import Database
from shared.due import DueLoop
from shared.process import Part
from shared.publisher import Publisher
from shared.retention import Memory
from shared.topics import Topics

_GROUP = 250
_IDLE = timedelta(milliseconds=150)


@dataclass(frozen=True, slots=True)
class TaskParts:
    """`parts` to run, after database and publisher; `chores` for the cleaner, `memories` for the survey."""

    parts: Sequence[Part]
    chores: Sequence[Chore]
    memories: tuple[Memory, ...]


def create_task_parts(settings: TaskSettings, topics: Topics, database: Database, publisher: Publisher) -> TaskParts:
    """Build them. `publisher` is one that does not compress: anybody may read ticks."""
    lease, misfire_after = timedelta(seconds=settings.tick_lease_s), timedelta(seconds=settings.misfire_after_s)
    store = TickStore(database, lease, misfire_after)
    ticks = TickPublisher(store, publisher, topics.tick, timedelta(seconds=settings.tick_patience_s))
    ticker = Ticker(store, Firer(settings.job_defaults, misfire_after), ticks, misfire_after)
    loop = DueLoop(
        "ticks",
        database,
        TICKS,
        ticks.publish,
        lease=lease,
        free=lambda: _GROUP if ticks.available else 0,
        idle=_IDLE,
    )
    kept = timedelta(days=settings.result_retention)
    chores = [Chore("scheduler.occurrence", lambda limit: store.delete_ended(kept, limit))]
    return TaskParts([loop, ticker], chores, (Memory("MILENA_RESULT_RETENTION", kept, (topics.tick,)),))
