"""Bring every schema up to date, in one process: a command for each would cost a second of imports each."""

from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from deploy.local.errors import StackError
from deploy.local.settings import REPOSITORY
from shared.migrations import ACCESS_VERSIONS, migrate

SERVICES = ("gateway", "sender", "scheduler", "callback")


async def migrate_all(database_url: str) -> None:
    """Do what the services' ``migrate`` commands do, the shared schema ``access`` first. Raises StackError."""
    versions = {"access": ACCESS_VERSIONS}
    versions |= {service: REPOSITORY / "services" / service / "migrations" for service in SERVICES}
    for schema, directory in versions.items():
        try:
            await migrate(database_url, schema, directory)
        except (SQLAlchemyError, CommandError, OSError) as exc:
            raise StackError(f"the schema {schema} could not be migrated: {exc}") from exc
