"""The statements on lists of recipients. All times are PostgreSQL's."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from services.scheduler.importing.recipients import Recipient
from services.scheduler.importing.rows import BadRow
from services.scheduler.lists.recipient_list import ListState, ProblemKind, RecipientList, RowProblem
from shared.access import ApiKey
from shared.database import Database, text

_FIELDS = ", ".join(field.name for field in fields(RecipientList))
_LOCK = text("SELECT id FROM scheduler.mailing_list WHERE account = :account AND id = :id FOR UPDATE")
# A mailing needs its list until the last entry has a row of its own.
_DELETE = text(
    """
    UPDATE scheduler.mailing_list SET state = 'deleted' WHERE id = :id AND NOT EXISTS (
        SELECT FROM scheduler.mailing WHERE list = :id AND frozen_at IS NULL
        AND state IN ('draft', 'scheduled', 'running', 'paused'))
    RETURNING id
    """
)
# An entry of a recipient who has one already is left out, the first stays; so is one within the same portion.
_ADD = """
    WITH alive AS (
        UPDATE scheduler.mailing_list SET seen_at = now() WHERE id = $1 AND state = 'receiving' RETURNING id),
    given AS (
        SELECT * FROM unnest($2::int[], $3::int[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[])
            AS given(number, line, recipient, address, name, zone, variables)),
    added AS (
        INSERT INTO scheduler.mailing_list_entry (list, recipient, number, address, name, zone, variables)
        SELECT alive.id, recipient, number, address, name, zone, variables::jsonb FROM alive, given ORDER BY number
        ON CONFLICT DO NOTHING RETURNING number),
    doubled AS (SELECT number, line FROM given WHERE number NOT IN (SELECT number FROM added)),
    told AS (
        INSERT INTO scheduler.mailing_list_problem (list, number, line, kind, field, detail)
        SELECT alive.id, number, line, 'duplicate', 'address', 'a row before has this recipient' FROM alive, doubled
        UNION ALL
        SELECT alive.id, bad.number, bad.line, 'invalid', bad.field, bad.detail
        FROM alive, unnest($9::int[], $10::int[], $11::text[], $12::text[]) AS bad(number, line, field, detail)
        ON CONFLICT DO NOTHING)
    SELECT (SELECT count(*) FROM alive) AS alive, ARRAY(SELECT number FROM doubled ORDER BY number) AS doubled
"""


@dataclass(frozen=True, slots=True)
class Totals:
    """What became of the rows of an upload."""

    rows: int
    invalid: int
    duplicates: int
    variables: list[str]


class ListStore:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, list_id: UUID, key: ApiKey, name: str | None) -> None:
        """An upload begins."""
        await self._database.fetch(
            "INSERT INTO scheduler.mailing_list (id, account, api_key_id, name) VALUES ($1, $2, $3, $4)",
            list_id,
            key.account,
            key.id,
            name,
        )

    async def add(self, list_id: UUID, entries: Sequence[Recipient], bad: Sequence[BadRow]) -> list[int] | None:
        """Keep a portion; gives the numbers of rows whose recipient has an entry. None: it was given up meanwhile."""
        rows = await self._database.fetch(_ADD, list_id, *_transpose(map(_write, entries), 7), *_transpose(bad, 4))
        return list(rows[0]["doubled"]) if rows[0]["alive"] else None

    async def finish(self, list_id: UUID, totals: Totals) -> RecipientList | None:
        """It is whole, and may be written to. None: it was given up meanwhile."""
        rows = await self._database.fetch(
            f"""
            UPDATE scheduler.mailing_list SET state = 'ready', rows = $2::bigint, invalid = $3::bigint,
                   duplicates = $4::bigint, recipients = $2::bigint - $3 - $4, variables = $5, ready_at = now()
            WHERE id = $1 AND state = 'receiving' RETURNING {_FIELDS}
            """,
            list_id,
            totals.rows,
            totals.invalid,
            totals.duplicates,
            totals.variables,
        )
        return _read(rows[0]) if rows else None

    async def abort(self, list_id: UUID, detail: str, totals: Totals) -> None:
        """It is not whole: nobody is in it, and what had been kept is deleted in time."""
        await self._database.fetch(
            """
            UPDATE scheduler.mailing_list SET state = 'aborted', detail = $2, rows = $3, invalid = $4, duplicates = $5
            WHERE id = $1 AND state = 'receiving'
            """,
            list_id,
            detail,
            totals.rows,
            totals.invalid,
            totals.duplicates,
        )

    async def find(self, account: str, list_id: UUID) -> RecipientList | None:
        """One list of this account."""
        query = f"SELECT {_FIELDS} FROM scheduler.mailing_list WHERE account = $1 AND id = $2 AND state <> 'deleted'"
        rows = await self._database.fetch(query, account, list_id)
        return _read(rows[0]) if rows else None

    async def list_page(self, account: str, after: tuple[datetime, UUID] | None, limit: int) -> list[RecipientList]:
        """Lists, newest first, after a position."""
        rows = await self._database.fetch(
            f"""
            SELECT {_FIELDS} FROM scheduler.mailing_list WHERE account = $1 AND state <> 'deleted'
              AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
            ORDER BY created_at DESC, id DESC LIMIT $4
            """,
            account,
            *(after or (None, None)),
            limit,
        )
        return list(map(_read, rows))

    async def list_problems(self, list_id: UUID, after: int, limit: int) -> list[RowProblem]:
        """Rows that made no entry, in their order, after a number."""
        rows = await self._database.fetch(
            """
            SELECT number, line, kind, field, detail FROM scheduler.mailing_list_problem
            WHERE list = $1 AND number > $2 ORDER BY number LIMIT $3
            """,
            list_id,
            after,
            limit,
        )
        return [RowProblem(*row.values())._replace(kind=ProblemKind(row["kind"])) for row in rows]

    async def delete(self, account: str, list_id: UUID) -> bool:
        """Delete a list of this account. False: a mailing still needs it."""
        async with self._database.transaction() as connection:
            # A statement of its own: a mailing that is being made holds the row, and is seen afterwards.
            await connection.execute(_LOCK, {"account": account, "id": list_id})
            return (await connection.execute(_DELETE, {"id": list_id})).first() is not None


def _write(entry: Recipient) -> tuple[Any, ...]:
    variables = {name: value for name, value in (entry.attributes or {}).items() if value is not None}
    if entry.tags is not None:
        variables["tags"] = entry.tags
    written = orjson.dumps(variables).decode()
    return entry.number, entry.line, entry.id, entry.address, entry.name or "", entry.timezone or None, written


def _transpose(rows: Any, width: int) -> list[list[Any]]:
    columns: list[list[Any]] = [[] for _ in range(width)]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns


def _read(row: Any) -> RecipientList:
    kept = dict(row)
    return RecipientList(**kept | {"state": ListState(kept["state"])})
