"""Schema migrations: one Alembic environment for all schemas, each schema's versions beside its owner.

`access` is owned by the gateway: `python -m services.gateway migrate` brings it up before its own. Every other
service only reads it.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from shared.database import to_driver_url

ACCESS_VERSIONS = Path(__file__).parent / "access"
_LOCK = 0x6D696C656E61  # one migration at a time on a database, whoever starts it


async def migrate(database_url: str, schema: str, versions: Path) -> None:
    """Bring `schema` to its newest version, under an advisory lock; any number of processes may call it at once."""
    engine = create_async_engine(to_driver_url(database_url))
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
            await connection.run_sync(_upgrade, schema, versions)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, schema: str, versions: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    config.attributes["schema"] = schema
    command.upgrade(config, "head")
