"""PostgreSQL: one pool per process, with three ways in.

`transaction()` is SQLAlchemy Core. `fetch()` hands one statement straight to asyncpg: the batch statements of the hot
paths (arrays through unnest) need no compiler, and the difference is measurable (docs/performance.md). So does `copy()`
with rows that are written already.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from types import MappingProxyType
from typing import Any

import asyncpg
import orjson
from sqlalchemy import make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared.failpoints import DATABASE_ANSWERED, has_failpoint, reach_failpoint
from shared.retrying import Unavailable

_GONE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # "cannot switch to state": the server's farewell was on its way meanwhile
    OSError,
    TimeoutError,
)
_REPEAT = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_DEADLOCK_TRIES = 5
# Whatever PostgreSQL believes of the next value, a page is never found by sorting all that has it; and plans are made
# once for each connection, for over a hundred partitions that takes longer than carrying them out.
LIST_PLANNING = {"plan_cache_mode": "force_generic_plan", "enable_sort": "off", "enable_seqscan": "off"}
# A plan that is kept is the one for the values and tables as they were: made while a table was all but empty, it reads
# the whole of it each time until PostgreSQL has analysed it. (Statements without parameters keep theirs.)
PLAN_EACH_TIME = {"plan_cache_mode": "force_custom_plan"}
_STALL_S = 5.0  # a statement that took longer met a server that stood still: leases may have run out meanwhile


def _may_pass(exc: asyncpg.PostgresError) -> bool:
    """Whether the same statement may succeed later: full disk, memory, cancelled, fail-over to a reader, I/O."""
    state = exc.sqlstate or ""
    return state[:2] in ("40", "53", "57", "58") or state == "25006"


def _find_driver_error(exc: BaseException) -> BaseException:
    """What asyncpg said, under SQLAlchemy's and its dialect's own exceptions."""
    while not isinstance(exc, (asyncpg.PostgresError, asyncpg.InterfaceError)):
        inner = getattr(exc, "orig", None) or exc.__cause__
        if inner is None:
            return exc
        exc = inner
    return exc


class DatabaseUnavailable(Unavailable):
    """PostgreSQL does not answer, or closed the connection; a statement in flight may or may not have happened."""


class Database:
    """The pool. `losses` counts lost connections and stalled statements: time passed unseen by holders of leases.

    `planning` are PostgreSQL's settings for how the statements of this pool are to be planned.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 5,
        application_name: str = "milena",
        statement_timeout_s: float = 60,
        planning: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.losses = 0
        self.away = False  # whether the last statement could not be carried out
        self._engine: AsyncEngine = create_async_engine(
            to_driver_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=10,
            json_deserializer=orjson.loads,
            connect_args={
                "timeout": 5,
                "command_timeout": statement_timeout_s,
                "server_settings": {"application_name": application_name, "timezone": "UTC", **planning},
            },
        )

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Run one statement (`$1` parameters) in a transaction of its own and return its rows.

        JSON goes in as text and comes out decoded.

        Repeated on deadlock. Raises DatabaseUnavailable, or the driver's error for a wrong statement.
        """
        rows: list[asyncpg.Record] = await self._run(lambda driver: driver.fetch(sql, *args), sql)
        return rows

    async def copy(self, name: str, columns: Sequence[str], data: bytes) -> None:
        """Write rows, in COPY's binary format, into the table `name` (its schema with it): all or none of them.

        Repeated on deadlock. Raises DatabaseUnavailable, or the driver's error for a row that cannot be written.
        """
        schema, _, table = name.rpartition(".")
        options = {"schema_name": schema or None, "columns": list(columns), "format": "binary"}
        await self._run(lambda driver: driver.copy_to_table(table, source=BytesIO(data), **options), f"COPY {name}")

    async def _run(self, call: Callable[[Any], Awaitable[Any]], what: str) -> Any:
        for attempt in range(_DEADLOCK_TRIES):
            try:
                return await self._run_once(call, what)
            except _REPEAT:
                await asyncio.sleep(0.01 * 2**attempt)
        raise DatabaseUnavailable("postgresql: deadlocked again and again")

    async def _run_once(self, call: Callable[[Any], Awaitable[Any]], what: str) -> Any:
        connection: AsyncConnection | None = None
        asked = time.monotonic()
        try:
            connection = await self._engine.connect()
            raw = await connection.get_raw_connection()
            answer = await call(raw.driver_connection)
            if has_failpoint(DATABASE_ANSWERED):
                await reach_failpoint(DATABASE_ANSWERED, [what.encode()])
            self.away = False
            if time.monotonic() - asked > _STALL_S:
                self.losses += 1
            return answer
        except _GONE as exc:
            await self._drop(connection)
            connection = None
            self.away = True
            raise DatabaseUnavailable(f"postgresql: {type(exc).__name__}") from exc
        except _REPEAT:
            raise
        except PoolTimeout as exc:  # every connection waits for a server that stalls; none is lost
            self.away = True
            self.losses += 1
            raise DatabaseUnavailable("postgresql: no connection is free") from exc
        except asyncpg.PostgresError as exc:
            if not _may_pass(exc):
                raise
            raise DatabaseUnavailable(f"postgresql: {type(exc).__name__}") from exc
        except DBAPIError as exc:
            self.away = True
            raise DatabaseUnavailable(f"postgresql: {type(exc.orig).__name__}") from exc
        finally:
            if connection is not None:
                await connection.close()

    async def _drop(self, connection: AsyncConnection | None) -> None:
        """The server closed this connection; those idle in the pool are no better."""
        self.losses += 1
        if connection is not None:
            await connection.invalidate()
            await connection.close()
        await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A Core connection inside one transaction, committed at the end. Raises DatabaseUnavailable."""
        try:
            async with self._engine.begin() as connection:
                yield connection
        except DBAPIError as exc:
            driver = _find_driver_error(exc)
            if exc.connection_invalidated or isinstance(driver, _GONE):
                self.losses += 1
                raise DatabaseUnavailable(f"postgresql: {type(driver).__name__}") from exc
            if isinstance(driver, asyncpg.PostgresError) and _may_pass(driver):
                raise DatabaseUnavailable(f"postgresql: {type(driver).__name__}") from exc
            raise
        except PoolTimeout as exc:
            raise DatabaseUnavailable("postgresql: no connection is free") from exc
        except _GONE as exc:
            self.losses += 1
            raise DatabaseUnavailable(f"postgresql: {type(exc).__name__}") from exc

    async def check(self) -> str | None:
        """For /readyz: None when a statement succeeds, otherwise what is wrong."""
        try:
            await self.fetch("SELECT 1")
        except DatabaseUnavailable as exc:
            return f"{exc}: is the server in MILENA_DATABASE_URL running?"
        return None

    async def start(self) -> None:
        """As a part of a process: connections are made when needed."""

    async def stop(self) -> None:
        """As a part of a process: close every connection."""
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


def to_driver_url(url: str) -> URL:
    """A libpq-style URL (`postgresql://…?host=/run/x&sslmode=require`) as SQLAlchemy's asyncpg dialect wants it."""
    parsed = make_url(url).set(drivername="postgresql+asyncpg")
    query = dict(parsed.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return parsed.set(query=query)


async def database_now(database: Database) -> Any:
    """PostgreSQL's clock, the only one that leases and due times are compared with."""
    return (await database.fetch("SELECT now() AS now"))[0]["now"]


__all__ = ["Database", "DatabaseUnavailable", "database_now", "text", "to_driver_url"]
