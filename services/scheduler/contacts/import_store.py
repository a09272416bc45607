"""The statements on imports of contacts. All times are PostgreSQL's."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from services.scheduler.contacts.contact_import import ContactImport, ImportState, Tally
from services.scheduler.importing.rows import BadRow
from shared.access import ApiKey
from shared.cleaning import delete_chosen
from shared.database import Database

_SILENCE = timedelta(minutes=2)
"""After so long without a sign of life the process that took the upload in has ended."""
_SILENT = f"state = 'receiving' AND seen_at < now() - interval '{_SILENCE.total_seconds():.0f} s'"
_CUT_OFF = "The upload was cut off: the process that took it in ended. Send the file again."
_COLUMNS = {field.name: field.name for field in fields(ContactImport)} | {
    "state": f"CASE WHEN {_SILENT} THEN 'aborted' ELSE state END AS state",
    "detail": f"CASE WHEN {_SILENT} THEN '{_CUT_OFF}' ELSE detail END AS detail",
}
_SELECT = f"SELECT {', '.join(_COLUMNS.values())} FROM scheduler.contact_import"
_NOTE = """
    WITH noted AS (
        UPDATE scheduler.contact_import SET seen_at = now(), received = $2, created = $3, changed = $4, unchanged = $5,
               invalid = $6, rows = $7
        WHERE id = $1 RETURNING id)
    INSERT INTO scheduler.contact_import_problem (import, number, row, line, field, detail)
    SELECT noted.id, bad.* FROM noted, unnest($8::int[], $9::bigint[], $10::bigint[], $11::text[], $12::text[])
        AS bad(number, row, line, field, detail)
    ON CONFLICT DO NOTHING
"""


class ImportProblem(NamedTuple):
    """A row that was left out. `detail` never repeats what stands in it."""

    number: int
    row: int
    line: int
    field: str | None
    detail: str


class ImportStore:
    """Every method raises DatabaseUnavailable, and may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, import_id: UUID, key: ApiKey, name: str | None, size: int | None) -> None:
        """An upload begins."""
        await self._database.fetch(
            """
            INSERT INTO scheduler.contact_import (id, account, api_key_id, name, size) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT DO NOTHING
            """,
            import_id,
            key.account,
            key.id,
            name,
            size,
        )

    async def note(self, import_id: UUID, received: int, tally: Tally, bad: Sequence[BadRow]) -> None:
        """How far it is; `bad` are the last of its bad rows."""
        first = tally.invalid - len(bad) + 1
        numbered = [(first + place, *row) for place, row in enumerate(bad)]
        columns = [list(column) for column in zip(*numbered, strict=True)] if numbered else [[]] * 5
        counts = (tally.created, tally.changed, tally.unchanged, tally.invalid, tally.rows)
        await self._database.fetch(_NOTE, import_id, received, *counts, *columns)

    async def end(self, import_id: UUID, state: ImportState, detail: str | None = None) -> None:
        """It is over; `detail` says why, where it is aborted."""
        await self._database.fetch(
            """
            UPDATE scheduler.contact_import SET state = $2, detail = $3, seen_at = now(), finished_at = now()
            WHERE id = $1 AND finished_at IS NULL
            """,
            import_id,
            state.value,
            detail,
        )

    async def find(self, account: str, import_id: UUID) -> ContactImport | None:
        """One import of this account."""
        rows = await self._database.fetch(f"{_SELECT} WHERE id = $1 AND account = $2", import_id, account)
        return _read(rows[0]) if rows else None

    async def list_page(self, account: str, after: tuple[datetime, UUID] | None, limit: int) -> Sequence[ContactImport]:
        """Imports, newest first, after a position."""
        query = f"""
            {_SELECT} WHERE account = $1 {"AND (created_at, id) < ($3, $4)" if after else ""}
            ORDER BY created_at DESC, id DESC LIMIT $2
        """
        return list(map(_read, await self._database.fetch(query, account, limit, *(after or ()))))

    async def list_problems(self, import_id: UUID, after: int, limit: int) -> Sequence[ImportProblem]:
        """Rows that were left out, in their order, after a problem's number."""
        rows = await self._database.fetch(
            """
            SELECT number, row, line, field, detail FROM scheduler.contact_import_problem
            WHERE import = $1 AND number > $2 ORDER BY number LIMIT $3
            """,
            import_id,
            after,
            limit,
        )
        return [ImportProblem(*row.values()) for row in rows]

    async def delete_problems(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` problems of imports that began longer ago than `kept`."""
        chosen = """
            SELECT bad.ctid FROM scheduler.contact_import AS old
            JOIN scheduler.contact_import_problem AS bad ON bad.import = old.id
            WHERE old.created_at < now() - $1::interval LIMIT $2
        """
        return await delete_chosen(self._database, "scheduler.contact_import_problem", chosen, kept, limit)

    async def delete_imports(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` of these imports once they have no problems any more."""
        chosen = """
            SELECT ctid FROM scheduler.contact_import AS old WHERE created_at < now() - $1::interval
            AND NOT EXISTS (SELECT FROM scheduler.contact_import_problem AS bad WHERE bad.import = old.id) LIMIT $2
        """
        return await delete_chosen(self._database, "scheduler.contact_import", chosen, kept, limit)


def _read(row: Any) -> ContactImport:
    kept = dict(row)
    return ContactImport(**kept | {"state": ImportState(kept["state"])})
