"""An API that leans on PostgreSQL alone: its application, its database, its look-up of keys."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from shared.access import AccessStore, KeyLookup, LastUses
from shared.apidocs import ProblemDocument, add_schemas
from shared.database import Database
from shared.settings import HttpSettings
from shared.web import setup_web

_BODY_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class DatabaseApi:
    """An application without routes yet. An outage of `database` in a route is a 503 by itself."""

    app: FastAPI
    database: Database
    keys: KeyLookup


def create_database_api(
    service: str,
    settings: HttpSettings,
    database_url: str,
    *,
    body_limit: int = _BODY_LIMIT,
    body_limits: Mapping[str, int] | None = None,
) -> DatabaseApi:
    """Build one. `body_limit`: bytes of a request's body, `body_limits` of those to certain paths."""
    database = Database(database_url, application_name=f"milena-{service}-api")

    store = AccessStore(database)
    uses = LastUses(store)
    keys = KeyLookup(store, on_use=uses.note)

    @asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        await uses.start()
        yield
        await uses.stop()
        await database.close()

    app = FastAPI(title=f"Milena {service}", docs_url=None, redoc_url=None, lifespan=live)
    app.router.redirect_slashes = False  # it would name whatever host and scheme a proxy hides
    setup_web(
        app,
        settings,
        {"postgresql": database.check},
        body_limit=body_limit,
        keys=keys,
        body_limits=body_limits or {},
    )
    add_schemas(app, ProblemDocument)
    return DatabaseApi(app, database, keys)
