"""Every SQL statement on retries: who is whose, and which mails a filter chooses. Raises DatabaseUnavailable."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.gateway.store import Row, decode
from shared.cleaning import delete_chosen
from shared.database import Database

# The condition is that of the index emails_to_retry; every status that a filter may name is in it.
RETRIABLE = ("failed", "partially_sent", "expired", "unknown", "cancelled")
_CHOOSE = f"""
    SELECT * FROM gateway.emails AS mail
    WHERE account = $1 AND status IN {RETRIABLE} AND status = ANY($2)
      AND created_at >= $3 AND created_at < $4 AND (created_at, id) > ($5, $6)
      AND ($7::text IS NULL OR $7 = ANY(tags))
      AND ($8::text IS NULL OR mailing_id = $8)
      AND ($9::text IS NULL OR jsonb_path_exists(recipients, '$[*] ? (@.reason == $reason)',
                                                 jsonb_build_object('reason', $9)))
      AND NOT EXISTS (SELECT 1 FROM gateway.retries AS retry WHERE retry.retry_of = mail.id)
    ORDER BY created_at, id LIMIT $10
"""
_ROOTS = """
    SELECT asked.id, coalesce(retry.root, asked.id) AS root
    FROM unnest($1::uuid[]) AS asked(id) LEFT JOIN gateway.retries AS retry ON retry.id = asked.id
"""
_FAMILIES = "SELECT root, id, number, now() - created_at AS age FROM gateway.retries WHERE root = ANY($1::uuid[])"
_RESERVE = """
    INSERT INTO gateway.retries (id, retry_of, root, number, account)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::text[]) ORDER BY 3, 4
    ON CONFLICT DO NOTHING RETURNING id
"""
_LINES = """
    SELECT email_id, type, at, topic, partition, "offset", data
    FROM gateway.timeline WHERE bucket = $1 AND email_id = ANY($2)
      AND (type IN ('email.requested', 'email.bulk_requested') OR data->>'reason' = 'unknown')
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which mails are meant: `reason` is a recipient's, times are those of `created_at`; `after` is exclusive."""

    account: str
    statuses: tuple[str, ...]
    since: datetime
    until: datetime
    after: tuple[datetime, UUID]
    tag: str | None
    mailing_id: str | None
    reason: str | None
    limit: int


@dataclass(frozen=True, slots=True)
class Noted:
    """A retry as it was noted: its place in the family of `root`."""

    root: UUID
    id: UUID
    number: int
    age: timedelta


@dataclass(frozen=True, slots=True)
class Reservation:
    """A retry that is about to be published: the only one of its family with this number."""

    id: UUID
    retry_of: UUID
    root: UUID
    number: int
    account: str


class RetryStore:
    """The table `gateway.retries`, and what choosing needs of the read model."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def choose(self, wanted: Filter) -> list[Row]:
        """The mails a filter means, oldest first; one that has been retried is its last retry's business."""
        rows = await self._database.fetch(
            _CHOOSE,
            wanted.account,
            list(wanted.statuses),
            wanted.since,
            wanted.until,
            *wanted.after,
            wanted.tag,
            wanted.mailing_id,
            wanted.reason,
            wanted.limit,
        )
        return [decode(row) for row in rows]

    async def find_roots(self, ids: Collection[UUID]) -> dict[UUID, UUID]:
        """For each mail the first one of its family; its own id where it is no retry."""
        rows = await self._database.fetch(_ROOTS, list(ids))
        return {_plain(row["id"]): _plain(row["root"]) for row in rows}

    async def list_families(self, roots: Collection[UUID]) -> list[Noted]:
        """All retries in the families of `roots`."""
        rows = await self._database.fetch(_FAMILIES, list(roots))
        return [Noted(_plain(row["root"]), _plain(row["id"]), row["number"], row["age"]) for row in rows]

    async def list_lines(self, rows: Collection[Row]) -> list[Row]:
        """Of the timelines of these mails what deciding needs: requests, and events of unknown outcome."""
        days: dict[Any, list[UUID]] = {}
        for row in rows:
            days.setdefault(row["bucket"], []).append(row["id"])
        found = [line for day, ids in days.items() for line in await self._database.fetch(_LINES, day, ids)]
        return [dict(line) for line in found]

    async def reserve(self, wanted: Sequence[Reservation]) -> set[UUID]:
        """Note retries before they are published; returns those nobody else was faster with."""
        columns = [list(column) for column in zip(*(_to_columns(each) for each in wanted), strict=True)]
        if not columns:
            return set()
        return {_plain(row["id"]) for row in await self._database.fetch(_RESERVE, *columns)}

    async def forget(self, ids: Collection[UUID]) -> None:
        """These were not published."""
        await self._database.fetch("DELETE FROM gateway.retries WHERE id = ANY($1)", list(ids))


async def delete_retries(database: Database, kept: timedelta, limit: int) -> int:
    """Delete up to `limit` notes of retries older than `kept`: the read model has forgotten the mails."""
    chosen = """
        SELECT ctid FROM gateway.retries WHERE created_at < now() - $1::interval ORDER BY created_at LIMIT $2
    """
    return await delete_chosen(database, "gateway.retries", chosen, kept, limit)


def _to_columns(each: Reservation) -> tuple[UUID, UUID, UUID, int, str]:
    return each.id, each.retry_of, each.root, each.number, each.account


def _plain(value: UUID) -> UUID:
    """asyncpg has a class of its own, which no JSON encoder knows."""
    return UUID(int=value.int)
