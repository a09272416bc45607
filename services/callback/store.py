"""Every SQL statement of the callback service."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select

from services.callback import tables
from services.callback.deliveries import Delivery, DeliveryState
from services.callback.verdict import Attempt, Verdict
from shared.cleaning import delete_chosen
from shared.database import Database
from shared.due import DueRow, DueTable

# Finished rows stay: by them the same event published again is recognised.
DUE_DELIVERIES = DueTable("callback.delivery", where="state = 'pending'")


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """A delivery as an account sees it, with its attempts in their order."""

    id: UUID
    event_id: UUID
    type: str
    url: str
    state: DeliveryState
    next_attempt_at: datetime | None
    created_at: datetime
    attempts: list["StoredAttempt"]


@dataclass(frozen=True, slots=True)
class StoredAttempt:
    """One request that was made."""

    number: int
    started_at: datetime
    duration_ms: int
    status: int | None
    error: str | None
    response: str


class CallbackStore:
    """Deliveries and their attempts. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, deliveries: Sequence[Delivery]) -> int:
        """Keep deliveries that are not known yet, due at once; returns how many were new. May be repeated."""
        merged = {each.id: each for each in deliveries}
        new = [merged[key] for key in sorted(merged)]
        rows = await self._database.fetch(
            """
            INSERT INTO callback.delivery (id, account, email_id, event_id, type, url, body, traceparent)
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::bytea[],
                                 $8::text[])
            ON CONFLICT (id) DO NOTHING RETURNING id
            """,
            [each.id for each in new],
            [each.account for each in new],
            [each.email_id for each in new],
            [each.event_id for each in new],
            [each.type for each in new],
            [each.url for each in new],
            [each.body for each in new],
            [each.traceparent for each in new],
        )
        return len(rows)

    async def settle(self, row: DueRow, attempt: Attempt, verdict: Verdict) -> bool:
        """Store an attempt and what it means, in one statement; False where the lease is no longer ours."""
        rows = await self._database.fetch(
            """
            WITH held AS (
                UPDATE callback.delivery
                SET state = $3, attempts = attempts + 1, due_at = coalesce(now() + $4::interval, due_at),
                    finished_at = CASE WHEN $3 <> 'pending' THEN now() END, lease_token = NULL, lease_until = NULL
                WHERE id = $1 AND lease_token = $2 AND state = 'pending' RETURNING id, attempts)
            INSERT INTO callback.attempt (delivery_id, number, started_at, duration_ms, status, error, response)
            SELECT id, attempts, $5::timestamptz, $6::int, $7::int, $8::text, $9::text FROM held RETURNING number
            """,
            row.id,
            row.token,
            verdict.state.value,
            verdict.retry_in,
            attempt.started_at,
            attempt.duration_ms,
            attempt.status,
            attempt.error,
            attempt.response,
        )
        return bool(rows)

    async def postpone(self, rows: Sequence[DueRow], delay: timedelta) -> None:
        """Give leased rows back untried, due after `delay`."""
        await self._database.fetch(
            """
            UPDATE callback.delivery AS row SET due_at = now() + $3, lease_token = NULL, lease_until = NULL
            FROM unnest($1::uuid[], $2::uuid[]) AS held(id, token)
            WHERE row.id = held.id AND row.lease_token = held.token
            """,
            [row.id for row in rows],
            [row.token for row in rows],
            delay,
        )

    async def delete_finished(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` deliveries, with their attempts, that ended longer ago than `kept`."""
        return await delete_chosen(
            self._database,
            "callback.delivery",
            """
            SELECT ctid FROM callback.delivery WHERE state <> 'pending' AND finished_at < now() - $1::interval
            ORDER BY finished_at LIMIT $2
            """,
            kept,
            limit,
        )

    async def list_of_email(self, email_id: UUID, account: str, limit: int) -> list[StoredDelivery]:
        """The newest deliveries of one mail of this account, newest first."""
        delivery, attempt = tables.delivery, tables.attempt
        found = (
            select(delivery)
            .where(delivery.c.email_id == email_id, delivery.c.account == account)
            .order_by(delivery.c.created_at.desc(), delivery.c.id)
            .limit(limit)
        )
        async with self._database.transaction() as connection:
            rows = (await connection.execute(found)).all()
            made = select(attempt).where(attempt.c.delivery_id.in_([row.id for row in rows])).order_by(attempt.c.number)
            attempts = (await connection.execute(made)).all()
        by_delivery: dict[UUID, list[StoredAttempt]] = {row.id: [] for row in rows}
        for each in attempts:
            by_delivery[each.delivery_id].append(
                StoredAttempt(each.number, each.started_at, each.duration_ms, each.status, each.error, each.response)
            )
        return [
            StoredDelivery(
                row.id,
                row.event_id,
                row.type,
                row.url,
                DeliveryState(row.state),
                row.due_at if row.state == DeliveryState.PENDING else None,
                row.created_at,
                by_delivery[row.id],
            )
            for row in rows
        ]
