"""The statements of the worker's looks at batches: uploads given up, how fast mail leaves, batches at their end."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from services.scheduler.batches.progress import Batch
from services.scheduler.batches.store import SELECT_BATCH, read_batch
from shared.cleaning import delete_chosen
from shared.database import Database
from shared.due import DueRow, DueTable

LOOKS = DueTable("scheduler.batch", where="told_at IS NULL")
PAUSE = timedelta(seconds=1)
"""Between two looks at a batch on its way."""


class Look(NamedTuple):
    """What a look has found: mails that have their end, and the rate that makes."""

    row: DueRow
    rate: float | None
    ended: int
    is_finished: bool


class BatchLookStore:
    """Every method raises DatabaseUnavailable and may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, rows: Sequence[DueRow]) -> dict[UUID, tuple[Batch, float]]:
        """How leased batches stand, and the seconds since each was sampled last."""
        found = await self._database.fetch(
            f"""
            SELECT stand.*, extract(epoch FROM now() - sampled_at)::float8 AS elapsed_s
            FROM ({SELECT_BATCH} WHERE batch.id = ANY($1::uuid[])) AS stand
            """,
            [row.id for row in rows],
        )
        return {row["id"]: (read_batch(row), row["elapsed_s"] or 0.0) for row in found}

    async def note(self, looks: Sequence[Look]) -> None:
        """Write down what was found, and when to look again; a finished batch stays leased, to be told."""
        await self._database.fetch(
            """
            UPDATE scheduler.batch AS batch
            SET rate = look.rate, sampled_ended = look.ended, sampled_at = now(), due_at = now() + $6::interval,
                finished_at = CASE WHEN look.finished THEN coalesce(finished_at, now()) END,
                lease_token = CASE WHEN look.finished THEN lease_token END,
                lease_until = CASE WHEN look.finished THEN lease_until END
            FROM unnest($1::uuid[], $2::uuid[], $3::float8[], $4::bigint[], $5::bool[])
                 AS look(id, token, rate, ended, finished)
            WHERE batch.id = look.id AND batch.lease_token = look.token AND batch.told_at IS NULL
            """,
            [look.row.id for look in looks],
            [look.row.token for look in looks],
            [look.rate for look in looks],
            [look.ended for look in looks],
            [look.is_finished for look in looks],
            PAUSE,
        )

    async def mark_told(self, ids: Sequence[UUID]) -> None:
        """Nothing more will happen to these batches: their end was acknowledged, or nothing is left of them."""
        await self._database.fetch(
            """
            UPDATE scheduler.batch SET told_at = now(), lease_token = NULL, lease_until = NULL
            WHERE id = ANY($1::uuid[]) AND told_at IS NULL
            """,
            ids,
        )

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
