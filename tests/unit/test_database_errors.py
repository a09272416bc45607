"""Which of the driver's errors mean that PostgreSQL is away for now."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from shared.database import Database, DatabaseUnavailable


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    yield database
    await database.close()


class _Adapted(Exception):
    """As SQLAlchemy's dialect wraps what asyncpg raises."""


@pytest.mark.parametrize(
    "said",
    [asyncpg.CannotConnectNowError, asyncpg.AdminShutdownError, asyncpg.TooManyConnectionsError, asyncpg.DiskFullError],
)
async def test_a_transaction_cut_short_by_an_outage_is_an_outage(
    database: Database, said: type[asyncpg.PostgresError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        adapted = _Adapted()
        adapted.__cause__ = said("the database system is starting up")
        raise DBAPIError("SELECT", None, adapted)

    monkeypatch.setattr(database._engine.__class__, "begin", fail)
    with pytest.raises(DatabaseUnavailable, match=said.__name__):
        async with database.transaction():
            pass


async def test_no_server_is_an_outage(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with database.transaction():
            pass


async def test_a_wrong_statement_is_not(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        adapted = _Adapted()
        adapted.__cause__ = asyncpg.UndefinedTableError("no")
        raise DBAPIError("SELECT", None, adapted)

    monkeypatch.setattr(database._engine.__class__, "begin", fail)
    with pytest.raises(DBAPIError):
        async with database.transaction():
            pass
