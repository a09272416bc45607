"""Every SQL statement of a rebuild: tables beside the live ones, and the swap. Raises DatabaseUnavailable."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import orjson
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.gateway.replaying import Place
from services.gateway.store import FENCE, KEEP_EARLIEST, REBUILDING, ProjectionStore, Row, list_columns
from services.gateway.tables import SCHEMA, emails, timeline
from shared.database import Database, DatabaseUnavailable

_PATIENCE = "60s"  # for the workers' batches at work
_EMAILS, _TIMELINE = list_columns(emails), list_columns(timeline)
_UNVERSIONED = [f'"{column.name}"' for column in emails.columns if column.name != "version"]


def _qualify(names: Sequence[str], table: str) -> str:
    return ", ".join(f"{table}.{name}" for name in names)


class AnotherRebuild(Exception):
    """A rebuild is running on this database already."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a swap changed: mails and timeline lines that differed, were missing, or had no record."""

    replaced: int
    added: int
    removed: int
    lines_replaced: int
    lines_added: int
    lines_removed: int


class ShadowStore:
    """One rebuild's tables. Their names are its own: who lost his lock writes into nobody else's."""

    def __init__(self, database: Database) -> None:
        token = uuid4().hex[:12]
        self._database = database
        self._emails = f"{SCHEMA}.shadow_emails_{token}"
        self._timeline = f"{SCHEMA}.shadow_timeline_{token}"
        self.projection = ProjectionStore(database, self._emails, self._timeline)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold off other rebuilds. Raises AnotherRebuild."""
        async with self._database.transaction() as connection:
            await connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            got = await connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({REBUILDING})")
            if not got.scalar_one():
                raise AnotherRebuild
            yield

    async def create(self) -> None:
        """Make the tables, and remove those of a rebuild that died."""
        await self.drop_all()
        for name, table, key in (
            (self._emails, emails, "bucket, id"),
            (self._timeline, timeline, "bucket, email_id, event_id"),
        ):
            # Unlogged: after a crash they are of no use.
            await self._database.fetch(f"CREATE UNLOGGED TABLE {name} (LIKE {table.fullname}, PRIMARY KEY ({key}))")

    async def drop_all(self) -> None:
        """Remove the tables of this and of earlier rebuilds."""
        rows = await self._database.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename LIKE 'shadow\\_%'", SCHEMA
        )
        for row in rows:
            await self._database.fetch(f"DROP TABLE IF EXISTS {SCHEMA}.{row['tablename']}")

    async def analyze(self) -> None:
        """Let the planner know what the tables hold."""
        for name in (self._emails, self._timeline):
            await self._database.fetch(f"ANALYZE {name}")

    async def count_mails(self) -> int:
        """Mails in the shadow."""
        return int((await self._database.fetch(f"SELECT count(*) AS mails FROM {self._emails}"))[0]["mails"])

    @asynccontextmanager
    async def swapping(self) -> AsyncIterator["Swap"]:
        """Keep the workers out, and commit the swap at the end."""
        try:
            async with self._database.transaction() as connection:
                await connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
                await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({FENCE})")
                yield Swap(connection, self._emails, self._timeline)
        except ProgrammingError:
            raise  # a wrong statement is no outage
        except DBAPIError as exc:
            raise DatabaseUnavailable(f"the swap was not made: {type(exc.orig).__name__}") from exc


class Swap:
    """The statements of one swap, in the transaction that holds the fence."""

    def __init__(self, connection: AsyncConnection, emails_table: str, timeline_table: str) -> None:
        self._connection = connection
        self._emails = emails_table
        self._timeline = timeline_table

    async def set_floors(self, firsts: Mapping[Place, int]) -> None:
        """Say where in each partition the topics begin; before anything else."""
        floors = [{"topic": topic, "partition": part, "floor": first} for (topic, part), first in firsts.items()]
        await self._connection.exec_driver_sql(
            "CREATE TEMP TABLE floors (topic text, partition integer, floor bigint) ON COMMIT DROP"
        )
        await self._connection.execute(
            text("INSERT INTO floors SELECT * FROM jsonb_populate_recordset(NULL::floors, CAST(:floors AS jsonb))"),
            {"floors": orjson.dumps(floors).decode()},
        )

    async def check_days(self) -> None:
        """Raise DatabaseUnavailable where a mail of the shadow has been moved to another day since it was read."""
        for table, column in ((self._emails, "id"), (self._timeline, "email_id")):
            found = await self._connection.exec_driver_sql(
                f"SELECT 1 FROM {table} s JOIN gateway.locator l ON l.id = s.{column}"
                " WHERE l.bucket <> s.bucket LIMIT 1"
            )
            if found.first() is not None:
                raise DatabaseUnavailable("mails were moved to another day meanwhile; run it again")

    async def find_partial(self) -> list[tuple[UUID, Any]]:
        """Ids and buckets of mails in the shadow of which the topics hold only a part: a record is older."""
        found = await self._connection.exec_driver_sql(
            f"""
            SELECT s.id, s.bucket FROM {self._emails} s WHERE s.id IN (
                SELECT t.email_id FROM gateway.timeline t WHERE {_lies_before("t")}
                UNION ALL SELECT e.id FROM gateway.emails e WHERE e.topic IS NOT NULL AND {_lies_before("e")})
            """
        )
        return [(row.id, row.bucket) for row in found]

    async def load_old(self, ids: Sequence[UUID]) -> list[Row]:
        """Live rows of mails, in whatever bucket."""
        found = await self._connection.execute(
            text("SELECT * FROM gateway.emails WHERE id = ANY(CAST(:ids AS uuid[]))"), {"ids": list(ids)}
        )
        return [dict(row) for row in found.mappings()]

    async def keep_old_lines(self) -> None:
        """Older lines of the shadow's mails into the shadow."""
        columns = list_columns(timeline, "t.").replace('t."bucket"', 's."bucket"')
        await self._connection.exec_driver_sql(
            f"""
            INSERT INTO {self._timeline} AS kept ({_TIMELINE})
            SELECT DISTINCT ON (t.email_id, t.event_id) {columns}
            FROM gateway.timeline t JOIN {self._emails} s ON s.id = t.email_id
            WHERE {_lies_before("t")} ORDER BY t.email_id, t.event_id, t.at, t.topic, t.partition, t."offset"
            {KEEP_EARLIEST}
            """
        )

    async def apply(self) -> Changes:
        """Make the live tables what the shadow has; what lies wholly before the topics' beginnings stays."""
        misplaced = await self._run(
            f"DELETE FROM gateway.emails e USING {self._emails} s WHERE e.id = s.id AND e.bucket <> s.bucket"
        )
        # Whatever has a record that lies in what the topics hold, and none before, must be in the shadow.
        removed = await self._run(
            f"""
            DELETE FROM gateway.emails e WHERE NOT EXISTS (SELECT FROM {self._emails} s WHERE s.id = e.id)
            AND (e.topic IS NULL OR NOT {_lies_before("e")})
            AND (e.topic IS NOT NULL OR EXISTS (SELECT FROM gateway.timeline t WHERE t.email_id = e.id))
            AND NOT EXISTS (SELECT FROM gateway.timeline t WHERE t.email_id = e.id AND {_lies_before("t")})
            """
        )
        replaced = await self._run(
            f"""
            UPDATE gateway.emails e SET ({", ".join(_UNVERSIONED)}, version)
                = ROW({_qualify(_UNVERSIONED, "s")}, e.version + 1)
            FROM {self._emails} s WHERE e.bucket = s.bucket AND e.id = s.id
            AND ROW({_qualify(_UNVERSIONED, "e")}) IS DISTINCT FROM ROW({_qualify(_UNVERSIONED, "s")})
            """
        )
        added = await self._run(
            f"""
            INSERT INTO gateway.emails ({_EMAILS}) SELECT {list_columns(emails, "s.")} FROM {self._emails} s
            WHERE NOT EXISTS (SELECT FROM gateway.emails e WHERE e.bucket = s.bucket AND e.id = s.id)
            """
        )
        return Changes(replaced, added - misplaced, removed, *await self._apply_lines())

    async def _apply_lines(self) -> tuple[int, int, int]:
        same = "(s.bucket, s.email_id, s.event_id) = (t.bucket, t.email_id, t.event_id)"
        removed = await self._run(
            f"""
            DELETE FROM gateway.timeline t WHERE NOT EXISTS (SELECT FROM {self._timeline} s WHERE {same})
            AND (NOT {_lies_before("t")}
                OR EXISTS (SELECT FROM {self._emails} s WHERE s.id = t.email_id AND s.bucket <> t.bucket))
            """
        )
        replaced = await self._run(
            f"""
            UPDATE gateway.timeline t SET ({_TIMELINE}) = ROW({list_columns(timeline, "s.")})
            FROM {self._timeline} s WHERE {same} AND NOT {_lies_before("t")}
            AND ROW({list_columns(timeline, "t.")}) IS DISTINCT FROM ROW({list_columns(timeline, "s.")})
            """
        )
        added = await self._run(
            f"""
            INSERT INTO gateway.timeline ({_TIMELINE}) SELECT {list_columns(timeline, "s.")} FROM {self._timeline} s
            WHERE NOT EXISTS (SELECT FROM gateway.timeline t WHERE {same})
            """
        )
        return replaced, added, removed

    async def _run(self, statement: str) -> int:
        return (await self._connection.exec_driver_sql(statement)).rowcount


def _lies_before(table: str) -> str:
    """Whether the topics no longer hold the record a row names (or never did, under these names)."""
    return (
        f"NOT EXISTS (SELECT FROM floors f WHERE f.topic = {table}.topic AND f.partition = {table}.partition"
        f' AND {table}."offset" >= f.floor)'
    )
