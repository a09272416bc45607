"""The due loop: rows that fall due, each acted on by whoever leases it first (P11).

One mechanism for deferred and parked mail, delayed mail and callback deliveries. A table takes part by having the
columns `id`, `due_at`, `lease_token` (uuid) and `lease_until`; times are PostgreSQL's. Nothing is locked while
acting: a lease is taken and committed, the handler acts, and the row is finished by its lease token. Every act is
keyed and may happen twice, after a death or a lease that ran out.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any
from uuid import UUID, uuid4

import structlog

from shared.database import Database
from shared.metrics import DUE_FAILED, DUE_LEASED
from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

_FAILURE_PAUSE_S = 1.0
_LEASING_PATIENCE_S = 5.0  # at a stop: PostgreSQL may never answer, and nothing is lost by not waiting for it


@dataclass(frozen=True, slots=True)
class DueRow:
    """A leased row: its id, the token that finishes it, and its columns."""

    id: UUID
    token: UUID
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DueTable:
    """Statements on one table of due rows.

    `name` is schema-qualified; `where` narrows what may fall due; `mark` is what the lease itself writes
    (`state = 'releasing'`), so that taking a row and changing its state are one conditional update. Where `size` says
    how many bytes a row brings along, a lease takes no more than `most_bytes`, or one row that is larger.
    """

    name: str
    where: str = "true"
    mark: str = ""
    size: str = ""
    most_bytes: int = 8 * 1024 * 1024

    async def lease(self, database: Database, limit: int, lease: timedelta) -> list[DueRow]:
        """Take on up to `limit` rows that are due and not leased, oldest first."""
        token = uuid4()
        mark = f", {self.mark}" if self.mark else ""
        rows = await database.fetch(
            f"""
            WITH due AS (
                SELECT id, due_at, {self.size or "0"} AS size FROM {self.name}
                WHERE due_at <= now() AND (lease_until IS NULL OR lease_until < now()) AND ({self.where})
                ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED){self._bound()}
            UPDATE {self.name} AS t SET lease_token = $2, lease_until = now() + $3{mark}
            FROM {"bounded" if self.size else "due"} AS taken WHERE t.id = taken.id RETURNING t.*
            """,
            limit,
            token,
            lease,
        )
        # RETURNING promises no order.
        rows.sort(key=itemgetter("due_at"))
        return [DueRow(row["id"], token, dict(row)) for row in rows]

    def _bound(self) -> str:
        """What fits: the rows left over were locked in vain, which others see for no longer than this statement."""
        if not self.size:
            return ""
        return f""",
            summed AS (SELECT id, size, sum(size) OVER (ORDER BY due_at, id) AS total FROM due),
            bounded AS (SELECT id FROM summed WHERE total <= {self.most_bytes} OR total = size)"""

    async def finish(self, database: Database, rows: Sequence[DueRow]) -> set[UUID]:
        """Delete rows still held under their token; returns the ids that were."""
        found = await database.fetch(
            f"""
            DELETE FROM {self.name} AS t USING unnest($1::uuid[], $2::uuid[]) AS held(id, token)
            WHERE t.id = held.id AND t.lease_token = held.token RETURNING t.id
            """,
            [row.id for row in rows],
            [row.token for row in rows],
        )
        return {row["id"] for row in found}

    async def release(self, database: Database, rows: Sequence[DueRow], due_at: datetime | None = None) -> None:
        """Give rows back, due at `due_at` or as before."""
        await database.fetch(
            f"""
            UPDATE {self.name} AS t SET lease_token = NULL, lease_until = NULL, due_at = coalesce($3, t.due_at)
            FROM unnest($1::uuid[], $2::uuid[]) AS held(id, token)
            WHERE t.id = held.id AND t.lease_token = held.token
            """,
            [row.id for row in rows],
            [row.token for row in rows],
            due_at,
        )

    async def renew(self, database: Database, rows: Sequence[DueRow], lease: timedelta) -> set[UUID]:
        """Hold rows longer; returns the ids still ours."""
        found = await database.fetch(
            f"""
            UPDATE {self.name} AS t SET lease_until = now() + $3
            FROM unnest($1::uuid[], $2::uuid[]) AS held(id, token)
            WHERE t.id = held.id AND t.lease_token = held.token RETURNING t.id
            """,
            [row.id for row in rows],
            [row.token for row in rows],
            lease,
        )
        return {row["id"] for row in found}


class DueLoop:
    """Leases due rows and hands them to `handle`, until stopped.

    `handle` gets the leased rows and is to finish them; what it leaves comes again after the lease. One that returns
    while its rows are still being worked on must see to their end itself. `free` tells how many rows may be taken
    now; 0 while there is no room or nothing may be sent. Whatever fails, the loop goes on.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        table: DueTable,
        handle: Callable[[list[DueRow]], Awaitable[None]],
        *,
        lease: timedelta,
        free: Callable[[], int] = lambda: 100,
        idle: timedelta = timedelta(milliseconds=250),
    ) -> None:
        self._name = name
        self._database = database
        self._table = table
        self._handle = handle
        self._lease = lease
        self._free = free
        self._idle_s = idle.total_seconds()
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._acting = False
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin looking for due rows in the background."""
        self._stopping.clear()
        self._task = asyncio.create_task(self._run(), name=f"due-{self._name}")

    def wake(self) -> None:
        """Look again at once: there is room again, or a row has just been written."""
        self._woken.set()

    async def stop(self) -> None:
        """Take nothing more, and wait for the handler at work, however long; the process's grace is the limit."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        self._woken.set()
        if not self._acting:
            await asyncio.wait([task], timeout=_LEASING_PATIENCE_S)
            if not self._acting:
                task.cancel()
        await asyncio.wait([task])

    async def _run(self) -> None:
        while not self._stopping.is_set():
            # Cleared before looking, so that a wake() in between is not lost.
            self._woken.clear()
            try:
                taken = await self._take()
            except Exception as exc:
                self._report(exc)
                await _wait(self._stopping, _FAILURE_PAUSE_S)
                continue
            if self._failing:
                self._failing = False
                log.info("due loop goes on", loop=self._name)
            if not taken and not self._stopping.is_set():
                await _wait(self._woken, self._idle_s)

    async def _take(self) -> int:
        """One round. Returns how many rows were handled."""
        free = self._free()
        if free <= 0:
            return 0
        rows = await self._table.lease(self._database, free, self._lease)
        if not rows:
            return 0
        if self._stopping.is_set():
            await self._table.release(self._database, rows)
            return 0
        DUE_LEASED.labels(loop=self._name).inc(len(rows))
        self._acting = True
        try:
            await self._handle(rows)
        finally:
            self._acting = False
        return len(rows)

    def _report(self, exc: Exception) -> None:
        """An outage is said once; a bug every time."""
        if not isinstance(exc, Unavailable):
            DUE_FAILED.labels(loop=self._name).inc()
            log.error("due round failed", loop=self._name, exc_info=exc)
        elif not self._failing:
            log.warning("due loop waits", loop=self._name, error=str(exc))
        self._failing = True


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Until the event is set, at most `timeout_s`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
