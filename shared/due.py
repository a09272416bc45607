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
from typing import Any
from uuid import UUID, uuid4

import structlog

from shared.database import Database
from shared.metrics import DUE_FAILED, DUE_LEASED
from shared.retrying import Unavailable

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DueRow:
    """A leased row: its id, the token that finishes it, and its columns."""

    id: UUID
    token: UUID
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DueTable:
    """Statements on one table of due rows. `name` is schema-qualified; `where` narrows what may fall due."""

    name: str
    where: str = "true"

    async def lease(self, database: Database, limit: int, lease: timedelta) -> list[DueRow]:
        """Take on up to `limit` rows that are due and not leased, oldest first."""
        token = uuid4()
        rows = await database.fetch(
            f"""
            WITH due AS (
                SELECT id FROM {self.name}
                WHERE due_at <= now() AND (lease_until IS NULL OR lease_until < now()) AND ({self.where})
                ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
            UPDATE {self.name} AS t SET lease_token = $2, lease_until = now() + $3
            FROM due WHERE t.id = due.id RETURNING t.*
            """,
            limit,
            token,
            lease,
        )
        return [DueRow(row["id"], token, dict(row)) for row in rows]

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

    `handle` gets the leased rows and is to finish them; what it leaves comes again after the lease. `free` tells how
    many rows may be taken now; 0 while there is no room or nothing may be sent.
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
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin looking for due rows in the background."""
        self._task = asyncio.create_task(self._run(), name=f"due-{self._name}")

    async def stop(self) -> None:
        """Take nothing more; waits for the handler at work."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            taken = await self._take()
            if not taken:
                await asyncio.sleep(self._idle_s)

    async def _take(self) -> int:
        """One round. Returns how many rows were handled; never raises, the loop must go on."""
        free = self._free()
        if free <= 0:
            return 0
        try:
            rows = await self._table.lease(self._database, free, self._lease)
            if rows:
                DUE_LEASED.labels(loop=self._name).inc(len(rows))
                await asyncio.shield(asyncio.ensure_future(self._handle(rows)))
            return len(rows)
        except Unavailable as exc:
            log.warning("due loop waits", loop=self._name, error=str(exc))
        except Exception:
            DUE_FAILED.labels(loop=self._name).inc()
            log.exception("due handler failed", loop=self._name)
        await asyncio.sleep(1.0)
        return 0
