"""The parts of the worker that give delayed mail back when it is due, and tell what happened to it meanwhile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from services.scheduler.settings import WorkerSettings
from services.scheduler.waiting.announcing import Announcer
from services.scheduler.waiting.delayed import Expiry
from services.scheduler.waiting.release import Releaser
from services.scheduler.waiting.store import ANNOUNCEMENTS, RELEASES, SchedulerStore
from shared.database import Database
from shared.due import DueLoop
from shared.metrics import RELEASE_OVERDUE_SECONDS
from shared.process import Part
from shared.publisher import Publisher
from shared.refreshing import Refresher
from shared.topics import Topics

_RELEASED_AT_ONCE = 500  # mails, of 8 MiB together at most
_TOLD_AT_ONCE = 64
_PAUSE = timedelta(milliseconds=150)  # the precision of `send_at`, together with the way through Kafka
_LOOK = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class DelayedParts:
    """`tell`: there may be something to tell, without waiting for the next look."""

    parts: Sequence[Part]
    tell: Callable[[], None]


def create_delayed_parts(
    settings: WorkerSettings, topics: Topics, database: Database, requests: Publisher, results: Publisher
) -> DelayedParts:
    """Build them: `requests` publishes mail, `results` what is told."""
    store = SchedulerStore(database)
    lease = timedelta(seconds=settings.release_lease_s)
    releaser = Releaser(store, requests, topics.requested, read_expiry(settings), settings.event_limit)
    releasing = DueLoop(
        "delayed",
        database,
        RELEASES,
        releaser.release,
        lease=lease,
        free=lambda: _RELEASED_AT_ONCE if requests.available else 0,
        idle=_PAUSE,
    )
    announcer = Announcer(database, store, results, topics)
    telling = DueLoop(
        "announcements",
        database,
        ANNOUNCEMENTS,
        announcer.announce,
        lease=lease,
        free=lambda: _TOLD_AT_ONCE if results.available else 0,
    )

    async def look() -> None:
        RELEASE_OVERDUE_SECONDS.set(await store.find_overdue())

    return DelayedParts([releasing, telling, Refresher(look, _LOOK)], telling.wake)


def read_expiry(settings: WorkerSettings) -> Expiry:
    """How long after its release a mail may be tried."""
    return Expiry(timedelta(hours=settings.default_expiry_hours), timedelta(hours=settings.expiry_limit_hours))
