"""An API that leans on PostgreSQL alone: its application, its database, its look-up of keys."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from shared.access import AccessStore, KeyLookup, LastUses
from shared.apidocs import ProblemDocument, add_schemas
from shared.database import LIST_PLANNING, Database
from shared.settings import HttpSettings
from shared.web import setup_web

_BODY_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class DatabaseApi:
    """An application without routes yet. An outage of `database` in a route is a 503 by itself.

    `lists` is the same database, planned as lists are to be; a slow one never takes the last connection of who looks up
    a key.
    """

    app: FastAPI
    database: Database
    lists: Database
    keys: KeyLookup


def create_database_api(
    service: str, settings: HttpSettings, database_url: str, *, body_limits: Mapping[str, int] | None = None
) -> DatabaseApi:
    """Build one. `body_limits`: bytes allowed on paths where 64 KiB are too few."""
    database = Database(database_url, application_name=f"milena-{service}-api")
    lists = Database(database_url, pool_size=2, application_name=f"milena-{service}-lists", planning=LIST_PLANNING)
    store = AccessStore(database)
    uses = LastUses(store)
    keys = KeyLookup(store, on_use=uses.note)

    @asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        await uses.start()
        yield
        await uses.stop()
        await database.close()
        await lists.close()

    app = FastAPI(title=f"Milena {service}", docs_url=None, redoc_url=None, lifespan=live)
    app.router.redirect_slashes = False  # it would name whatever host and scheme a proxy hides
    setup_web(
        app,
        settings,
        {"postgresql": database.check},
        body_limit=_BODY_LIMIT,
        keys=keys,
        body_limits=body_limits or {},
    )
    add_schemas(app, ProblemDocument)
    return DatabaseApi(app, database, lists, keys)
