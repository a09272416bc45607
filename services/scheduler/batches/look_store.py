"""The statements of the worker's looks at batches, beside those of pacing/look_store.py."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from services.scheduler.batches.progress import Batch
from services.scheduler.batches.store import SELECT_BATCH, read_batch
from services.scheduler.pacing.look_store import LookStore
from shared.cleaning import delete_chosen
from shared.database import Database
from shared.due import DueTable

LOOKS = DueTable("scheduler.batch", where="told_at IS NULL")


class BatchLookStore:
    """Every method raises DatabaseUnavailable and may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.looks = LookStore(database, LOOKS.name)

    async def find(self, ids: Sequence[UUID]) -> dict[UUID, tuple[Batch, float]]:
        """How batches stand, and the seconds since each was sampled last."""
        found = await self._database.fetch(
            f"""
            SELECT stand.*, extract(epoch FROM now() - sampled_at)::float8 AS elapsed_s
            FROM ({SELECT_BATCH} WHERE batch.id = ANY($1::uuid[])) AS stand
            """,
            ids,
        )
        return {row["id"]: (read_batch(row), row["elapsed_s"] or 0.0) for row in found}

    async def give_up(self, ids: Sequence[UUID]) -> None:
        """End uploads that have been silent for too long."""
        await self._database.fetch(
            """
            UPDATE scheduler.batch
            SET state = 'aborted', idempotency_key = NULL, lease_token = NULL, lease_until = NULL,
                detail = 'The upload was cut off: the process that took it in ended, or nothing came for minutes.'
            WHERE id = ANY($1::uuid[]) AND state = 'receiving' AND due_at <= now()
            """,
            sorted(ids),
        )

    async def delete_problems(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` problems of batches that ended longer ago than `kept`."""
        return await delete_chosen(
            self._database,
            "scheduler.batch_problem",
            """
            SELECT bad.ctid FROM scheduler.batch JOIN scheduler.batch_problem AS bad ON bad.batch = batch.id
            WHERE told_at < now() - $1::interval ORDER BY told_at LIMIT $2
            """,
            kept,
            limit,
        )

    async def delete_old(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` batches that ended longer ago than `kept` and have no problems any more."""
        return await delete_chosen(
            self._database,
            "scheduler.batch",
            """
            SELECT ctid FROM scheduler.batch WHERE told_at < now() - $1::interval
            AND NOT EXISTS (SELECT FROM scheduler.batch_problem AS bad WHERE bad.batch = batch.id)
            ORDER BY told_at LIMIT $2
            """,
            kept,
            limit,
        )
