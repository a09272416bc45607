"""The scheduler's HTTP API: what waits for its time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI, Path, Request
from pydantic import BaseModel, Field

from services.scheduler.delayed import DelayedState
from services.scheduler.settings import ApiSettings
from services.scheduler.store import SchedulerStore
from shared.access import AccessStore, ApiScope, KeyLookup
from shared.apidocs import ProblemDocument, add_schemas, describe_problems
from shared.database import Database, DatabaseUnavailable
from shared.problems import Problem
from shared.web import authenticate, setup_web

PREFIXES = ("/v1/scheduled",)
_BODY_LIMIT = 64 * 1024


class ScheduledEmail(BaseModel):
    """A mail that the scheduler holds or held."""

    id: UUID
    state: DelayedState = Field(description="releasing: it is being handed to the senders")
    due_at: datetime
    released_at: datetime | None = None
    cancelled_at: datetime | None = None


def create_api(settings: ApiSettings) -> FastAPI:
    """The application; its lifespan closes the database."""
    database = Database(settings.database_url.get_secret_value(), application_name="milena-scheduler-api")
    store = SchedulerStore(database)
    keys = KeyLookup(AccessStore(database))

    @asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        yield
        await database.close()

    app = FastAPI(title="Milena scheduler", docs_url=None, redoc_url=None, lifespan=live)
    setup_web(app, settings, {"postgresql": database.check}, body_limit=_BODY_LIMIT)

    @app.get(
        "/v1/scheduled/{email_id}",
        tags=["Scheduled"],
        summary="Whether a mail waits",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 404, 422, 503),
    )
    async def read_scheduled(
        request: Request, email_id: Annotated[UUID, Path(description="the mail's id")]
    ) -> ScheduledEmail:
        """Tell whether and until when a mail waits. 404: the scheduler never held it for this account."""
        key = await authenticate(request, keys, ApiScope.EMAILS_READ)
        try:
            found = await store.find(email_id, key.account)
        except DatabaseUnavailable as exc:
            raise Problem(503, "unavailable", "The database does not answer; try again.") from exc
        if found is None:
            raise Problem(404, "not-found", "No such mail was scheduled.")
        return ScheduledEmail.model_validate(found, from_attributes=True)

    add_schemas(app, ProblemDocument)
    return app
