"""Deleting what has been kept for long enough, little by little, in one process at a time.

A service names its chores; their statements are in its own store. Each deletes a bounded number of rows through an
index and commits, so nobody waits long for a lock, and whatever is interrupted goes on an hour later.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from shared.database import Database, text
from shared.metrics import ROWS_DELETED
from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

_BATCH = 5000
_PAUSE_S = 0.05  # between batches: the work of the day goes first


@dataclass(frozen=True, slots=True)
class Chore:
    """`delete(limit)` deletes up to `limit` old rows of `table` and returns how many; may raise Unavailable."""

    table: str
    delete: Callable[[int], Awaitable[int]]


async def delete_chosen(database: Database, table: str, chosen: str, *args: object) -> int:
    """Delete the rows of `table` whose `ctid` the query `chosen` gives, and return how many. Raises Unavailable.

    By ctid: joined by key, the planner would rather read the whole table than look up thousands of rows.
    """
    rows = await database.fetch(
        f"""
        WITH gone AS (DELETE FROM {table} WHERE ctid = ANY(ARRAY({chosen})) RETURNING 1)
        SELECT count(*) AS gone FROM gone
        """,
        *args,
    )
    return int(rows[0]["gone"])


class Cleaner:
    """A part of a process: does all chores every hour, first some minutes after the start.

    Only one process of a service cleans at a time; the others skip their turn.
    """

    def __init__(
        self,
        service: str,
        database: Database,
        chores: Sequence[Chore],
        *,
        every: timedelta = timedelta(hours=1),
        first_after: timedelta = timedelta(minutes=3),
        batch: int = _BATCH,
    ) -> None:
        self._service = service
        self._database = database
        self._chores = chores
        self._every_s = every.total_seconds()
        self._first_after_s = first_after.total_seconds()
        self._batch = batch
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name=f"cleaning-{self._service}")

    async def stop(self) -> None:
        """End at once: a statement cut short deletes nothing."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task])

    async def clean(self) -> None:
        """One round of every chore, unless another process is at it. Raises Unavailable."""
        # The lock is a transaction's, so it ends with the connection whatever becomes of this process. Idle between
        # statements the transaction holds no snapshot, and keeps no vacuum from its work.
        async with self._database.transaction() as connection:
            asked = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
            if (await connection.execute(asked, {"name": f"milena cleaning {self._service}"})).scalar_one():
                for chore in self._chores:
                    await self._do(chore)

    async def _do(self, chore: Chore) -> None:
        total, deleted = 0, self._batch
        while deleted >= self._batch:
            deleted = await chore.delete(self._batch)
            ROWS_DELETED.labels(table=chore.table).inc(deleted)
            total += deleted
            await asyncio.sleep(_PAUSE_S)
        if total:
            log.info("old rows deleted", table=chore.table, rows=total)

    async def _run(self) -> None:
        pause_s = self._first_after_s
        while True:
            # Processes started together do not all come at once.
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            pause_s = self._every_s
            try:
                await self.clean()
            except Unavailable as exc:
                log.warning("cleaning waits for its next turn", error=str(exc))
            except Exception:
                log.exception("cleaning failed")
