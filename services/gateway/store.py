"""Every SQL statement of the gateway's read model."""

import re
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Table, select
from sqlalchemy.dialects import postgresql

from services.gateway.buckets import find_own_bucket, read_day
from services.gateway.copy_store import CopyStore
from services.gateway.tables import SCHEMA, emails, timeline
from shared.database import Database
from shared.events import EventType

Row = dict[str, Any]
FENCE = "hashtext('gateway read model')"  # the advisory lock: workers share it, a rebuild holds it alone
REBUILDING = "hashtext('gateway rebuild')"  # held by a rebuild from its first record to its swap
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")  # an escaped NUL, not an escaped backslash before "u0000"
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def list_columns(table: Table, prefix: str = "") -> str:
    """The columns of a table as in a statement."""
    return ", ".join(f'{prefix}"{column.name}"' for column in table.columns)


def _read_rows(table: Table, names: Collection[str] = ()) -> str:
    """One JSON parameter as rows of the table, or of these columns of it: no limit on their number."""
    columns = [column for column in table.columns if not names or column.name in names]
    types = ", ".join(f'"{column.name}" {column.type.compile(_DIALECT)}' for column in columns)
    return f"jsonb_to_recordset($1::text::jsonb) AS given({types})"


# Of several records that tell the same thing the earliest is the line, whoever reads them in whatever order.
KEEP_EARLIEST = f"""
    ON CONFLICT (bucket, email_id, event_id)
    DO UPDATE SET ({list_columns(timeline)}) = ROW({list_columns(timeline, "excluded.")})
    WHERE (excluded.at, excluded.topic, excluded.partition, excluded."offset")
        < (kept.at, kept.topic, kept.partition, kept."offset")
"""
# What merging a result that tells the end makes of a row that knows nothing but the one request it is the result of, or
# of none. No update by a join: mails that wait are so few among all that the planner takes them for none, and goes
# through all given rows for each (1,000 results: 1,000,000 looks, 440 instead of 40 ms).
_SETTLED = (
    "bucket",
    "id",
    "account",
    "status",
    "complete",
    "attempts",
    "recipients",
    "message_id",
    "ledger_digest",
    "released",
    "created_at",
    "updated_at",
)
# What differs between the mails of one bulk event, and between the results of one moment.
_OF_ONE_MAIL = (
    "id",
    "recipients",
    "message_id",
    "digest",
    "addressees",
    "metadata",
    "ledger_digest",
    "rivals",
    "updated_at",
)
_OF_ONE_LINE = ("email_id", "event_id", "offset", "data")
_SETTLE_EMAILS = """
    INSERT INTO {table} AS kept ({names}, version, held, refused, completed)
    SELECT {names}, 1, false, false, true FROM {rows} ORDER BY bucket, id
    ON CONFLICT (bucket, id) DO UPDATE SET
        version = kept.version + 1, status = excluded.status, complete = excluded.complete, completed = true,
        attempts = greatest(kept.attempts, excluded.attempts), recipients = excluded.recipients,
        message_id = excluded.message_id, ledger_digest = excluded.ledger_digest,
        released = kept.released OR excluded.released, updated_at = greatest(kept.updated_at, excluded.updated_at)
    WHERE kept.status = 'queued' AND kept.digest = excluded.ledger_digest AND kept.ledger_digest IS NULL
        AND kept.rivals IS NULL AND NOT kept.refused AND NOT kept.completed AND kept.created_at <= excluded.created_at
        AND kept.addressees -> 'all' = jsonb_build_array(excluded.recipients -> 0 -> 'address')
    RETURNING id
"""
NEW_TIME = f"""
    SELECT data ->> 'send_at' FROM gateway.timeline AS line
    WHERE line.bucket = {{mail}}.bucket AND line.email_id = {{mail}}.id AND line.account = {{mail}}.account
      AND line.type = '{EventType.RESCHEDULED}' ORDER BY data ->> 'rescheduled_at' DESC LIMIT 1
"""
"""The time a mail was last moved to; `send_at` of its row is as it was requested."""
_FIND_EMAIL = f"""
    SELECT mail.*, CASE WHEN mail.send_at IS NOT NULL THEN ({NEW_TIME.format(mail="mail")}) END AS moved_to
    FROM gateway.emails AS mail WHERE bucket = $1 AND id = $2
"""
_KNOWN_BUCKETS = "SELECT id, bucket FROM gateway.locator WHERE id = ANY($1)"
_LOAD_EMAILS = "SELECT * FROM gateway.emails WHERE bucket = $1 AND id = ANY($2)"
_LOAD_LINES = """
    SELECT email_id, event_id, topic, partition, "offset" FROM gateway.timeline
    WHERE bucket = $1 AND email_id = ANY($2)
"""
_LOCATE = """
    INSERT INTO gateway.locator (id, bucket) SELECT * FROM unnest($1::uuid[], $2::date[]) ORDER BY 1
    ON CONFLICT DO NOTHING
"""


class ReadModel:
    """What the API reads. Every method raises DatabaseUnavailable.

    `patience_s`: for so long whoever asks for a mail right after its 202 may be ahead of the worker.
    """

    def __init__(self, database: Database, patience_s: float = 2.0) -> None:
        self._database = database
        self.patience_s = patience_s

    async def find_email(self, email_id: UUID) -> Row | None:
        """The mail's row, and `moved_to`: its `send_at` as it was last changed."""
        bucket = await self._find_bucket(email_id)
        if bucket is None:
            return None
        rows = await self._database.fetch(_FIND_EMAIL, bucket, email_id)
        return decode(rows[0]) if rows else None

    async def list_events(self, bucket: date, email_id: UUID) -> list[Row]:
        """The mail's timeline, in no particular order."""
        query = select(timeline).where(timeline.c.bucket == bucket, timeline.c.email_id == email_id)
        async with self._database.transaction() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]

    async def find_emails(self, email_ids: Sequence[UUID]) -> dict[UUID, Row]:
        """The rows of many mails, those there are."""
        days = group_by_day(await self._find_buckets(email_ids))
        rows = [row for day, ids in days.items() for row in await self._database.fetch(_LOAD_EMAILS, day, ids)]
        return {row["id"]: decode(row) for row in rows}

    async def find_lines(self, email_ids: Sequence[UUID]) -> dict[UUID, dict[UUID, tuple[str, int, int]]]:
        """For each mail its timeline's event ids, and where the record of each lies: topic, partition, offset."""
        found: dict[UUID, dict[UUID, tuple[str, int, int]]] = {}
        for day, ids in group_by_day(await self._find_buckets(email_ids)).items():
            for row in await self._database.fetch(_LOAD_LINES, day, ids):
                place = (row["topic"], row["partition"], row["offset"])
                found.setdefault(row["email_id"], {})[row["event_id"]] = place
        return found

    async def _find_bucket(self, email_id: UUID) -> date | None:
        return (await self._find_buckets([email_id])).get(email_id)

    async def _find_buckets(self, email_ids: Sequence[UUID]) -> dict[UUID, date]:
        rows = await self._database.fetch(_KNOWN_BUCKETS, email_ids)
        told = {email_id: day for email_id in email_ids if (day := read_day(email_id))}
        return told | {row["id"]: row["bucket"] for row in rows}


class ProjectionStore:
    """What the worker writes. Every method raises DatabaseUnavailable and may be repeated.

    A rebuild writes the same into tables of its own (`emails_table`, `timeline_table`), under the same buckets.
    """

    def __init__(
        self, database: Database, emails_table: str = emails.fullname, timeline_table: str = timeline.fullname
    ) -> None:
        self._database = database
        self._is_live = emails_table == emails.fullname
        self._load_emails = f"SELECT * FROM {emails_table} WHERE bucket = $1 AND id = ANY($2)"
        self._homes = dict.fromkeys((_LOAD_EMAILS, self._load_emails))  # where a mail may lie already
        self._new_emails = CopyStore(database, emails_table, emails, order=_order_mails, own=_OF_ONE_MAIL)
        self._new_lines = CopyStore(database, timeline_table, timeline, order=_order_lines, own=_OF_ONE_LINE)
        self._insert_timeline = f"""
            INSERT INTO {timeline_table} AS kept ({list_columns(timeline)})
            SELECT {list_columns(timeline)} FROM {_read_rows(timeline)} ORDER BY bucket, email_id, event_id
            {KEEP_EARLIEST}
        """
        self._save_emails = f"""
            INSERT INTO {emails_table} AS kept ({list_columns(emails)})
            SELECT {list_columns(emails)} FROM {_read_rows(emails)} ORDER BY bucket, id
            ON CONFLICT (bucket, id) DO UPDATE SET ({list_columns(emails)}) = ROW({list_columns(emails, "excluded.")})
            WHERE kept.version = excluded.version - 1
            RETURNING id
        """
        self._settle_emails = _SETTLE_EMAILS.format(
            table=emails_table, names=", ".join(_SETTLED), rows=_read_rows(emails, _SETTLED)
        )

    @asynccontextmanager
    async def fenced(self) -> AsyncIterator[None]:
        """Around everything that a batch writes: any number of workers at once, but none while a rebuild swaps.

        The lock has a connection of its own. Where that is lost, a row's version still stops what was read before.
        """
        if not self._is_live:
            yield
            return
        async with self._database.transaction() as connection:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock_shared({FENCE})")
            yield

    async def find_buckets(self, arrivals: Mapping[UUID, datetime]) -> dict[UUID, date]:
        """Where each mail lies, or shall lie; `arrivals` has the time of a record of each."""
        rows = await self._database.fetch(_KNOWN_BUCKETS, list(arrivals))
        found: dict[UUID, date] = {row["id"]: row["bucket"] for row in rows}
        strangers: dict[UUID, datetime] = {}
        for email_id, recorded_at in arrivals.items():
            if email_id in found:
                continue
            own = find_own_bucket(email_id, recorded_at)
            if own:
                found[email_id] = own
            else:
                strangers[email_id] = recorded_at
        return found | await self._locate(strangers) if strangers else found

    async def _locate(self, strangers: Mapping[UUID, datetime]) -> dict[UUID, date]:
        """Buckets of ids that do not tell them: where the mail is already (it waited for long), or its first day."""
        found: dict[UUID, date] = {}
        for email_id in strangers:
            day = read_day(email_id)
            if day and await self._lies_in(day, email_id):
                found[email_id] = day
        new = {email_id: at.date() for email_id, at in strangers.items() if email_id not in found}
        await self._database.fetch(_LOCATE, list(new), list(new.values()))
        rows = await self._database.fetch(_KNOWN_BUCKETS, list(new))
        return found | {row["id"]: row["bucket"] for row in rows}

    async def _lies_in(self, day: date, email_id: UUID) -> bool:
        for home in self._homes:
            if await self._database.fetch(home, day, [email_id]):
                return True
        return False

    async def load(self, buckets: Mapping[UUID, date]) -> dict[UUID, Row]:
        """The rows there are. One statement per day, so that each reads one partition."""
        days = group_by_day(buckets)
        rows = [row for day, ids in days.items() for row in await self._database.fetch(self._load_emails, day, ids)]
        return {row["id"]: decode(row) for row in rows}

    async def add_events(self, rows: Sequence[Row]) -> None:
        """Add to timelines what is not there yet; of two records of one line the earlier is kept."""
        if rows and not await self._new_lines.copy(rows):
            await self._database.fetch(self._insert_timeline, encode(rows))

    async def save(self, rows: Sequence[Row]) -> set[UUID]:
        """Write mails; returns the ids written. One that somebody else has written meanwhile is left as it is."""
        if not rows:
            return set()
        return {row["id"] for row in await self._database.fetch(self._save_emails, encode(rows))}

    async def add(self, rows: Sequence[Row]) -> set[UUID]:
        """Write mails of which nothing is known, most likely; returns the ids written, as `save` does."""
        if rows and await self._new_emails.copy(rows):
            return {row["id"] for row in rows}
        return await self.save(rows)

    async def settle(self, rows: Sequence[Row]) -> set[UUID]:
        """Write the ends of mails of which at most the request is known, unread; returns the ids written."""
        if not rows:
            return set()
        told = encode({name: row[name] for name in _SETTLED} for row in rows)
        return {row["id"] for row in await self._database.fetch(self._settle_emails, told)}


class PartitionStore:
    """Making partitions. Raises DatabaseUnavailable, or SQLAlchemy's DBAPIError where a partition cannot be made."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_partition(self, table: str, first: date, end: date) -> None:
        """The partition of `table` for buckets from `first` up to `end`, where it is missing."""
        name = f"{SCHEMA}.{table}_{first:%Y%m%d}"
        async with self._database.transaction() as connection:
            # The default partition is locked for a moment; whoever reads it must not be held up for long.
            await connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
            await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('gateway partitions'))")
            await connection.exec_driver_sql(
                f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {SCHEMA}.{table} "
                f"FOR VALUES FROM ('{first}') TO ('{end}')"
            )


def group_by_day(buckets: Mapping[UUID, date]) -> dict[date, list[UUID]]:
    """Ids by the day they lie in."""
    days: dict[date, list[UUID]] = {}
    for email_id, bucket in buckets.items():
        days.setdefault(bucket, []).append(email_id)
    return days


def _order_mails(row: Row) -> tuple[date, int]:
    return (row["bucket"], row["id"].int)  # a UUID compares itself in Python


def _order_lines(row: Row) -> tuple[date, int, int]:
    return (row["bucket"], row["email_id"].int, row["event_id"].int)


def encode(rows: Iterable[Row]) -> str:
    """Rows as one JSON parameter. PostgreSQL's text cannot hold NUL, which a caller's metadata may."""
    encoded = orjson.dumps(list(rows))
    if b"\\u0000" in encoded:
        encoded = _NUL.sub(rb"\1\\ufffd", encoded)
    return encoded.decode()


def decode(row: Any) -> Row:
    """A row of `emails` as read through asyncpg, which leaves JSON as text."""
    decoded = dict(row)
    decoded["id"] = UUID(int=row["id"].int)  # asyncpg has a class of its own, which no JSON encoder knows
    for name in ("recipients", "addressees", "metadata", "rivals"):
        if isinstance(decoded[name], str):
            decoded[name] = orjson.loads(decoded[name])
    return decoded
