"""Every SQL statement of the scheduler."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from services.scheduler.waiting.delayed import DelayedMail
from shared.cleaning import delete_chosen
from shared.database import Database
from shared.due import DueRow, DueTable
from shared.events import CancellationRequested

# Taking a mail on and ruling out its cancellation are one conditional update (R6). A row found `releasing` was taken
# by a process that died: it is published again, and the ledger makes the two one mail.
RELEASES = DueTable(
    "scheduler.delayed",
    where="state IN ('pending', 'releasing')",
    mark="state = 'releasing'",
    size="coalesce(octet_length(event), 0)",
)
ANNOUNCEMENTS = DueTable("scheduler.announcement")


@dataclass(frozen=True, slots=True)
class ToldMail:
    """A mail of which something is to be told; `event` None: it has left, or its cancellation has been told."""

    id: UUID
    account: str
    event: bytes | None
    traceparent: str | None
    is_bulk: bool


class SchedulerStore:
    """The scheduler's tables. Every method raises DatabaseUnavailable and may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, mails: Sequence[DelayedMail], cancellations: Sequence[CancellationRequested], kept: timedelta
    ) -> None:
        """Take in mails and cancellations. What was cancelled by it is to be told: a row of `announcement` says so.

        `mails` come merged, in the order of their ids. Whatever order mail and cancellation come in, and through
        whichever process: each is committed before it looks for the other, so one of them finds the other.
        """
        if cancellations:
            await self._keep(cancellations, kept)
        if mails:
            await self._insert(mails)
        ids = sorted({*(mail.id for mail in mails), *(each.id for each in cancellations)})
        if ids:
            await self._cancel(ids)

    async def _keep(self, cancellations: Sequence[CancellationRequested], kept: timedelta) -> None:
        asked = sorted({(each.account, each.id) for each in cancellations})
        await self._database.fetch(
            """
            INSERT INTO scheduler.cancellation (account, id, keep_until)
            SELECT account, id, now() + $3 FROM unnest($1::text[], $2::uuid[]) AS asked(account, id)
            ON CONFLICT (account, id) DO UPDATE SET keep_until = excluded.keep_until
            """,
            [account for account, _ in asked],
            [mail_id for _, mail_id in asked],
            kept,
        )

    async def _insert(self, mails: Sequence[DelayedMail]) -> None:
        await self._database.fetch(
            """
            WITH added AS (
                INSERT INTO scheduler.delayed (id, account, due_at, event, traceparent, expires_at, bulk_id, mail_count,
                                               state, cancelled_at)
                SELECT given.*, CASE WHEN kept.id IS NULL THEN 'pending' ELSE 'cancelled' END,
                       CASE WHEN kept.id IS NOT NULL THEN now() END
                FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bytea[], $5::text[], $6::timestamptz[],
                            $7::uuid[], $8::integer[])
                     AS given(id, account, due_at, event, traceparent, expires_at, bulk_id, mail_count)
                LEFT JOIN scheduler.cancellation AS kept
                     ON kept.id = given.id AND kept.account = given.account AND kept.keep_until > now()
                ORDER BY given.id
                ON CONFLICT (id) DO NOTHING
                RETURNING id, state, cancelled_at)
            INSERT INTO scheduler.announcement (mail_id, kind, at)
            SELECT id, 'cancelled', cancelled_at FROM added WHERE state = 'cancelled'
            """,
            *map(list, zip(*map(_write, mails), strict=True)),
        )

    async def _cancel(self, ids: Sequence[UUID]) -> None:
        await self._database.fetch(
            """
            WITH cancelled AS (
                UPDATE scheduler.delayed AS mail SET state = 'cancelled', cancelled_at = now()
                FROM scheduler.cancellation AS kept
                WHERE mail.id = ANY($1::uuid[]) AND mail.state = 'pending'
                  AND kept.id = mail.id AND kept.account = mail.account AND kept.keep_until > now()
                RETURNING mail.id, mail.cancelled_at)
            INSERT INTO scheduler.announcement (mail_id, kind, at) SELECT id, 'cancelled', cancelled_at FROM cancelled
            """,
            ids,
        )

    async def find_told(self, ids: Sequence[UUID]) -> dict[UUID, ToldMail]:
        """The mails that announcements are of. One cancelled keeps its content until that has been told."""
        rows = await self._database.fetch(
            """
            SELECT id, account, event, traceparent, bulk_id IS NOT NULL AS is_bulk
            FROM scheduler.delayed WHERE id = ANY($1::uuid[])
            """,
            ids,
        )
        return {row["id"]: ToldMail(**row) for row in rows}

    async def mark_announced(self, ids: Sequence[UUID]) -> None:
        """The broker has acknowledged these cancellations' results; their content is no longer needed."""
        await self._database.fetch(
            """
            UPDATE scheduler.delayed SET announced_at = now(), event = NULL
            WHERE id = ANY($1::uuid[]) AND state = 'cancelled'
            """,
            sorted(ids),
        )

    async def mark_released(self, rows: Sequence[DueRow]) -> None:
        """The broker has acknowledged these mails. The row stays: it recognises the same mail published again."""
        await self._database.fetch(
            """
            UPDATE scheduler.delayed AS mail
            SET state = 'released', released_at = now(), event = NULL, lease_token = NULL, lease_until = NULL
            FROM unnest($1::uuid[], $2::uuid[]) AS held(id, token)
            WHERE mail.id = held.id AND mail.lease_token = held.token AND mail.state = 'releasing'
            """,
            [row.id for row in rows],
            [row.token for row in rows],
        )

    async def find_overdue(self) -> float:
        """For how many seconds the oldest mail that has not left has been due; 0 where none is."""
        rows = await self._database.fetch(
            """
            SELECT extract(epoch FROM now() - due_at)::float8 AS overdue_s FROM scheduler.delayed
            WHERE state IN ('pending', 'releasing') AND due_at <= now() ORDER BY due_at LIMIT 1
            """
        )
        return float(rows[0]["overdue_s"]) if rows else 0.0

    async def delete_ended(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` rows whose mail left, or whose cancellation was told, longer ago than `kept`."""
        return await delete_chosen(
            self._database,
            "scheduler.delayed",
            """
            SELECT ctid FROM scheduler.delayed
            WHERE state IN ('released', 'cancelled') AND coalesce(released_at, announced_at) < now() - $1::interval
            ORDER BY coalesce(released_at, announced_at) LIMIT $2
            """,
            kept,
            limit,
        )

    async def delete_cancellations(self, limit: int) -> int:
        """Delete up to `limit` cancellations that no longer take effect."""
        return await delete_chosen(
            self._database,
            "scheduler.cancellation",
            """
            SELECT ctid FROM scheduler.cancellation WHERE keep_until < now() ORDER BY keep_until LIMIT $1
            """,
            limit,
        )


def _write(mail: DelayedMail) -> tuple[object, ...]:
    return (
        mail.id,
        mail.account,
        mail.due_at,
        mail.event,
        mail.traceparent,
        mail.expires_at,
        mail.bulk_id,
        mail.mail_count,
    )
