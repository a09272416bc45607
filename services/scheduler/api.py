"""The scheduler's HTTP API: what waits for its time, and tasks."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI, Path, Request
from pydantic import BaseModel, Field

from services.scheduler import task_api
from services.scheduler.delayed import DelayedState
from services.scheduler.settings import ApiSettings
from services.scheduler.store import SchedulerStore
from shared.access import ApiScope
from shared.apidocs import describe_problems
from shared.applications import create_database_api
from shared.authenticating import authenticate
from shared.problems import Problem

PREFIXES = ("/v1/scheduled", *task_api.PREFIXES)
_BODY_LIMIT = 512 * 1024  # a task holds a whole mail


class ScheduledEmail(BaseModel):
    """A mail that the scheduler holds or held."""

    id: UUID
    state: DelayedState = Field(description="releasing: it is being handed to the senders")
    due_at: datetime
    released_at: datetime | None = None
    cancelled_at: datetime | None = None


def create_api(settings: ApiSettings) -> FastAPI:
    """The application; its lifespan closes the database."""
    api = create_database_api("scheduler", settings, settings.database_url.get_secret_value(), body_limit=_BODY_LIMIT)
    app, store = api.app, SchedulerStore(api.database)

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
        key = await authenticate(request, api.keys, ApiScope.EMAILS_READ)
        found = await store.find(email_id, key.account)
        if found is None:
            raise Problem(404, "not-found", "No such mail was scheduled.")
        return ScheduledEmail.model_validate(found, from_attributes=True)

    task_api.setup_tasks(api, settings)
    return app
