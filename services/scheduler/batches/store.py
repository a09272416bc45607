"""The statements on batches for the API: taking them in, and telling how they stand. All times are PostgreSQL's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.scheduler.batches.judging import BadItem
from services.scheduler.batches.progress import Batch
from services.scheduler.pacing.states import BulkState
from shared.access import ApiKey
from shared.database import Database

SILENCE = timedelta(minutes=2)
"""After so long without a sign of life an upload is given up: the process that took it in has ended, or stalls."""
KEY_KEPT = timedelta(hours=24)

_COUNTS = ", ".join(f"coalesce(lane.{state}, 0) AS {state}" for state in BulkState)
SELECT_BATCH = f"""
    SELECT batch.id, batch.account, batch.name, batch.state, batch.detail, batch.items, batch.invalid, batch.test,
           batch.retry_of, batch.created_at, batch.started_at, batch.finished_at, batch.rate, batch.sampled_at,
           batch.sampled_ended, coalesce(lane.paused, false) AS paused, lane.cancelled_at, lane.changed_at, {_COUNTS},
           (SELECT retry.id FROM scheduler.batch AS retry
            WHERE retry.retry_of = batch.id AND retry.state <> 'aborted') AS retried_as
    FROM scheduler.batch AS batch LEFT JOIN scheduler.bulk_lane AS lane ON lane.id = batch.lane
"""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch whose upload begins."""

    id: UUID
    key: ApiKey
    name: str | None
    idempotency_key: str | None = None
    retry_of: UUID | None = None


@dataclass(frozen=True, slots=True)
class EarlierBatch:
    """The batch of the same Idempotency-Key, or the retry there is already."""

    id: UUID
    is_received: bool
    fingerprint: bytes | None


class BatchStore:
    """Every method raises DatabaseUnavailable and may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, new: NewBatch) -> EarlierBatch | None:
        """Note that an upload begins; or the batch that stands in its place."""
        if new.idempotency_key:
            await self._free_key(new.key.account, new.idempotency_key)
        if await self._insert(new):
            return None
        rows = await self._database.fetch(
            """
            SELECT id, state <> 'receiving' AS received, fingerprint FROM scheduler.batch
            WHERE (account = $1 AND idempotency_key = $2) OR (retry_of = $3 AND state <> 'aborted')
            """,
            new.key.account,
            new.idempotency_key,
            new.retry_of,
        )
        if not rows:  # it has just been given up
            return await self.begin(new)
        return EarlierBatch(rows[0]["id"], rows[0]["received"], rows[0]["fingerprint"])

    async def _free_key(self, account: str, key: str) -> None:
        await self._database.fetch(
            """
            UPDATE scheduler.batch SET idempotency_key = NULL
            WHERE account = $1 AND idempotency_key = $2
              AND (created_at < now() - $3::interval OR state = 'receiving' AND due_at < now())
            """,
            account,
            key,
            KEY_KEPT,
        )

    async def _insert(self, new: NewBatch) -> bool:
        rows = await self._database.fetch(
            """
            INSERT INTO scheduler.batch (id, account, api_key_id, test, name, idempotency_key, retry_of, due_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, now() + $8::interval) ON CONFLICT DO NOTHING RETURNING id
            """,
            new.id,
            new.key.account,
            new.key.id,
            new.key.test,
            new.name,
            new.idempotency_key,
            new.retry_of,
            SILENCE,
        )
        return bool(rows)

    async def note_lane(self, batch_id: UUID, lane: int) -> None:
        """In which lane the batch's mails are kept."""
        await self._database.fetch("UPDATE scheduler.batch SET lane = $2 WHERE id = $1", batch_id, lane)

    async def note_progress(self, batch_id: UUID, problems: Sequence[BadItem], written: Sequence[bytes]) -> bool:
        """Say that the upload goes on, and what was wrong in it. False: it was given up meanwhile."""
        rows = await self._database.fetch(
            """
            WITH alive AS (
                UPDATE scheduler.batch SET due_at = now() + $2::interval WHERE id = $1 AND state = 'receiving'
                RETURNING id),
            told AS (
                INSERT INTO scheduler.batch_problem (batch, number, line, problem)
                SELECT alive.id, bad.* FROM alive,
                       unnest($3::int[], $4::int[], $5::bytea[]) AS bad(number, line, problem)
                ON CONFLICT DO NOTHING)
            SELECT id FROM alive
            """,
            batch_id,
            SILENCE,
            [bad.number for bad in problems],
            [bad.line for bad in problems],
            written,
        )
        return bool(rows)

    async def start(self, batch_id: UUID, items: int, invalid: int, fingerprint: bytes | None) -> bool:
        """All of it is kept: let it go. False: it was given up meanwhile."""
        rows = await self._database.fetch(
            """
            WITH started AS (
                UPDATE scheduler.batch SET state = 'open', items = $2, invalid = $3, fingerprint = $4,
                       started_at = now(), sampled_at = now(), due_at = now()
                WHERE id = $1 AND state = 'receiving' RETURNING lane),
            freed AS (
                UPDATE scheduler.bulk_lane AS lane SET paused = false, changed_at = now()
                FROM started WHERE lane.id = started.lane)
            SELECT lane FROM started
            """,
            batch_id,
            items,
            invalid,
            fingerprint,
        )
        return bool(rows)

    async def abort(self, batch_id: UUID, detail: str, items: int, invalid: int) -> None:
        """Nothing of it will be sent; its mails are deleted by a worker, its problems stay to be read."""
        await self._database.fetch(
            """
            UPDATE scheduler.batch SET state = 'aborted', detail = $2, items = $3, invalid = $4,
                   idempotency_key = NULL, due_at = now()
            WHERE id = $1 AND state = 'receiving'
            """,
            batch_id,
            detail,
            items,
            invalid,
        )

    async def find(self, batch_id: UUID, account: str) -> Batch | None:
        """One batch of this account."""
        sql = f"{SELECT_BATCH} WHERE batch.id = $1 AND batch.account = $2"
        rows = await self._database.fetch(sql, batch_id, account)
        return read_batch(rows[0]) if rows else None

    async def find_all(self, ids: Sequence[UUID]) -> list[Batch]:
        """These batches."""
        rows = await self._database.fetch(f"{SELECT_BATCH} WHERE batch.id = ANY($1::uuid[])", ids)
        return list(map(read_batch, rows))

    async def list_page(self, account: str, after: tuple[datetime, UUID] | None, limit: int) -> list[Batch]:
        """The account's batches, newest first, from a position on."""
        sql = f"""
            {SELECT_BATCH} WHERE batch.account = $1
            {"AND (batch.created_at, batch.id) < ($3, $4)" if after else ""}
            ORDER BY batch.created_at DESC, batch.id DESC LIMIT $2
        """
        rows = await self._database.fetch(sql, account, limit, *(after or ()))
        return list(map(read_batch, rows))

    async def hurry(self, batch_id: UUID) -> None:
        """Have a worker look at the batch now: something was done to it."""
        await self._database.fetch(
            "UPDATE scheduler.batch SET due_at = now() WHERE id = $1 AND told_at IS NULL AND state = 'open'", batch_id
        )


def read_batch(row: Any) -> Batch:
    """A row of SELECT_BATCH."""
    return Batch(
        row["id"],
        row["account"],
        row["name"],
        row["state"],
        row["detail"],
        row["items"],
        row["invalid"],
        row["test"],
        row["retry_of"],
        row["retried_as"],
        row["created_at"],
        row["started_at"],
        row["finished_at"],
        row["rate"],
        row["sampled_at"],
        row["sampled_ended"],
        row["paused"],
        row["cancelled_at"],
        row["changed_at"],
        {state: row[state.value] for state in BulkState},
    )
