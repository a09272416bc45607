"""Every SQL statement behind the lists of mails. Raises DatabaseUnavailable.

Each list is a range of one index in every day's partition, read backward and merged by time: as many rows are read as
are shown, and one of each day.
"""

from datetime import datetime
from uuid import UUID

import orjson

from services.gateway.lists import ListFilter, MailList
from services.gateway.store import Row
from shared.database import Database

_SHOWN_TO = 3  # addresses of a mail that a list shows
_COLUMNS = f"""
    mail.id, mail.status, mail.sender, jsonb_path_query_array(mail.addressees, '$.to[0 to {_SHOWN_TO - 1}]') AS "to",
    coalesce(jsonb_array_length(mail.addressees -> 'all'), jsonb_array_length(mail.recipients)) AS recipient_count,
    mail.subject, mail.tags, mail.mailing_id, mail.batch_id, mail.send_at, mail.created_at, mail.updated_at
"""
_RANGE = "created_at >= $2 AND (created_at, id) < ($3, $4)"
_NEWEST = "ORDER BY created_at DESC, id DESC LIMIT $5"
_BY_COLUMN = f"SELECT {_COLUMNS} FROM gateway.emails AS mail WHERE account = $1 AND {{column}}{_RANGE} {_NEWEST}"
_BY_LABEL = f"""
    SELECT {_COLUMNS}
    FROM (
        SELECT bucket, id, created_at FROM gateway.labels
        WHERE account = $1 AND kind = '{{kind}}' AND value = $6 AND {_RANGE} {_NEWEST}) AS label
    JOIN gateway.emails AS mail ON mail.bucket = label.bucket AND mail.id = label.id
    ORDER BY label.created_at DESC, label.id DESC
"""
_COLUMNS_OF = {
    ListFilter.STATUS: "status",
    ListFilter.MAILING: "mailing_id",
    ListFilter.BATCH: "batch_id",
    ListFilter.KEY: "api_key_id",
}
STATEMENTS: dict[ListFilter | None, str] = {None: _BY_COLUMN.format(column="")}
STATEMENTS |= {kind: _BY_COLUMN.format(column=f"{column} = $6 AND ") for kind, column in _COLUMNS_OF.items()}
STATEMENTS |= {kind: _BY_LABEL.format(kind=kind.value) for kind in (ListFilter.RECIPIENT, ListFilter.TAG)}
"""By filter; $1 account, $2 the earliest time, $3 and $4 the position that the page comes after, $5 its length, $6 the
filter's value."""


class ListStore:
    """What the API lists. `database` plans by LIST_PLANNING."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read_page(self, wanted: MailList, after: tuple[datetime, UUID], limit: int) -> list[Row]:
        """Up to `limit` mails of a list, those that come after a position."""
        values = () if wanted.kind is None else (wanted.value,)
        rows = await self._database.fetch(STATEMENTS[wanted.kind], wanted.account, wanted.since, *after, limit, *values)
        return [_decode(dict(row)) for row in rows]


def _decode(row: Row) -> Row:
    """asyncpg leaves JSON as text, and has a class of its own for ids, which no JSON encoder knows."""
    to = row["to"]
    return {**row, "id": UUID(int=row["id"].int), "to": orjson.loads(to) if isinstance(to, str) else to}
