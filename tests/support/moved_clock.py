"""A clock that a test moves: what every statement of one database takes for now.

`now()` is looked up along the search path. One of our own stands before PostgreSQL's there, and adds what the clock was
moved by. Defaults of columns keep the real time; they were bound when the tables were made.
"""

from datetime import datetime, timedelta
from urllib.parse import urlsplit

import asyncpg

_SET_UP = """
CREATE SCHEMA clock;
CREATE TABLE clock.moved (by interval NOT NULL);
INSERT INTO clock.moved VALUES ('0');
CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT pg_catalog.now() + by FROM clock.moved';
"""


class MovedClock:
    """To be made before anything else connects to the database."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @classmethod
    async def set_up(cls, database_url: str) -> "MovedClock":
        """Put the clock in place: it shows the real time."""
        connection = await asyncpg.connect(database_url)
        await connection.execute(_SET_UP)
        name = urlsplit(database_url).path.lstrip("/")
        await connection.execute(f'ALTER DATABASE "{name}" SET search_path = clock, public, pg_catalog')
        return cls(connection)

    async def set(self, moment: datetime) -> None:
        """It is this time now; from here the clock goes on by itself."""
        await self._connection.execute("UPDATE clock.moved SET by = $1 - pg_catalog.now()", moment)

    async def go_on(self, by: timedelta) -> None:
        """So long has gone by."""
        await self._connection.execute("UPDATE clock.moved SET by = by + $1", by)

    async def read(self) -> datetime:
        """What time it is."""
        moment: datetime = await self._connection.fetchval("SELECT clock.now()")
        return moment

    async def close(self) -> None:
        """Nothing more is asked."""
        await self._connection.close()
