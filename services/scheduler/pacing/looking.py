"""A worker's looks at what is on its way: how fast mail leaves, and the last word on `schedule.tick` at its end.

What is found is written down, where every API process reads it: however many watch, the counting is done once.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar
from uuid import UUID

import structlog

from services.scheduler.pacing.look_store import PAUSE, Look, LookStore
from services.scheduler.pacing.pace import Pace
from shared.database import Database
from shared.due import DueLoop, DueRow, DueTable
from shared.producing import Message
from shared.publisher import Publisher

log = structlog.get_logger(__name__)

_LEASE = timedelta(seconds=30)
_AT_ONCE = 100


class _Underway(Protocol):
    """What is looked at. `ended`: mails that have their end; `is_over`: all of them. `rests`: nothing comes of it, so
    that it is looked at more rarely; whoever ends it has it looked at.
    """

    @property
    def id(self) -> UUID: ...
    @property
    def pace(self) -> Pace: ...
    @property
    def ended(self) -> int: ...
    @property
    def is_over(self) -> bool: ...
    @property
    def rests(self) -> bool: ...
    @property
    def finished_at(self) -> datetime | None: ...


Thing = TypeVar("Thing", bound=_Underway)


class Watch(Generic[Thing]):
    """Looks at things of one kind. Everything it does may happen twice.

    `find`: how they stand, and the seconds since each was sampled last. `tell`: the last word on one that is over.
    """

    def __init__(
        self,
        store: LookStore,
        find: Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, tuple[Thing, float]]]],
        tell: Callable[[Thing], Message],
        results: Publisher,
    ) -> None:
        self._store = store
        self._find = find
        self._tell = tell
        self._results = results

    async def look(self, rows: Sequence[DueRow]) -> None:
        """Handle what the due loop has leased. Raises Unavailable."""
        if not rows:
            return
        found = await self._find([row.id for row in rows])
        looks = [self._judge(row, *found[row.id]) for row in rows if row.id in found]
        await self._store.note(looks)
        finished = [look.row for look in looks if look.is_finished]
        if finished:
            await self._end(finished)

    async def _end(self, rows: Sequence[DueRow]) -> None:
        """What goes on again meanwhile is not held under its token any more, so that it is told of its next end."""
        found = (await self._find([row.id for row in rows])).values()
        ended = {thing.id: thing for thing, _ in found if thing.finished_at}
        await self._results.publish_all([self._tell(thing) for thing in ended.values()])
        await self._store.mark_told([row for row in rows if row.id in ended])
        log.info("finished", table=self._store.table, ids=[str(each) for each in ended])

    def _judge(self, row: DueRow, thing: Thing, elapsed_s: float) -> Look:
        """What a look says. What had its end keeps the rate it had."""
        if thing.finished_at:
            return Look(row, thing.pace.rate, thing.ended, is_finished=True)
        rate = thing.pace.go_on(thing.ended, elapsed_s)
        return Look(row, rate, thing.ended, is_finished=thing.is_over, is_idle=thing.rests and not rate)


def create_look_loop(
    name: str,
    database: Database,
    table: DueTable,
    look: Callable[[Sequence[DueRow]], Awaitable[None]],
    results: Publisher,
) -> DueLoop:
    """Has things looked at about every second. `results` is not compressed, so that any Kafka client reads the end."""
    return DueLoop(
        name,
        database,
        table,
        look,
        lease=_LEASE,
        free=lambda: _AT_ONCE if results.available else 0,
        idle=PAUSE / 4,
    )
