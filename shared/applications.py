"""An API that leans on PostgreSQL alone: its application, its database, its look-up of keys."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from fastapi import FastAPI

from shared.access import AccessStore, KeyLookup, LastUses
from shared.apidocs import ProblemDocument, add_schemas
from shared.database import LIST_PLANNING, Database
from shared.settings import HttpSettings, Network
from shared.web import setup_web

_BODY_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class DatabaseApi:
    """An application without routes yet. An outage of `database` in a route is a 503 by itself.

    `lists` is the same database, planned as lists are to be; a slow one never takes the last connection of who looks up
    a key. What routes need to end, at the end of the application, stands in `leaving`.
    """

    app: FastAPI
    database: Database
    lists: Database
    keys: KeyLookup
    leaving: list[Callable[[], Awaitable[None]]] = field(default_factory=list)


def create_database_api(
    service: str,
    settings: HttpSettings,
    database_url: str,
    *,
    body_limit: int = _BODY_LIMIT,
    body_limits: Mapping[str, int] | None = None,
    streamed: Collection[str] = (),
    public: Mapping[str, tuple[Network, ...]] = MappingProxyType({}),
) -> DatabaseApi:
    """Build one. `body_limit`: bytes of a body, `body_limits` of those to certain paths; for others see setup_web."""
    database = Database(database_url, application_name=f"milena-{service}-api")
    lists = Database(database_url, pool_size=2, application_name=f"milena-{service}-lists", planning=LIST_PLANNING)
    store = AccessStore(database)
    uses = LastUses(store)
    keys = KeyLookup(store, on_use=uses.note)
    leaving: list[Callable[[], Awaitable[None]]] = []

    @asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        await uses.start()
        yield
        for leave in leaving:
            await leave()
        await uses.stop()
        await database.close()
        await lists.close()

    app = FastAPI(title=f"Milena {service}", docs_url=None, redoc_url=None, lifespan=live)
    app.router.redirect_slashes = False  # it would name whatever host and scheme a proxy hides
    setup_web(
        app,
        settings,
        {"postgresql": database.check},
        body_limit=body_limit,
        keys=keys,
        body_limits=body_limits or {},
        streamed=streamed,
        public=public,
    )
    add_schemas(app, ProblemDocument)
    return DatabaseApi(app, database, lists, keys, leaving)
