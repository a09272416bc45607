"""The callback service's HTTP API: what was told to whom, and what they answered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, Field

from services.callback.deliveries import DeliveryState
from services.callback.settings import ApiSettings
from services.callback.store import CallbackStore
from shared.access import AccessStore, ApiScope, KeyLookup
from shared.apidocs import ProblemDocument, add_schemas, describe_problems
from shared.database import Database, DatabaseUnavailable
from shared.problems import Problem
from shared.web import authenticate, setup_web

PREFIXES = ("/v1/webhooks",)
_BODY_LIMIT = 64 * 1024
_SHOWN = 100  # deliveries of one mail; a mail has one per URL, or one per event it asked for


class DeliveryAttempt(BaseModel):
    """One request: the answer's status, or what went wrong."""

    number: int
    started_at: datetime
    duration_ms: int
    status: int | None = None
    error: str | None = None
    response: str = Field(description="the first 2 KiB of the answer's body")


class WebhookDelivery(BaseModel):
    """One event told to one URL."""

    id: UUID
    event_id: UUID = Field(description="sent as webhook-id")
    type: str
    url: str
    state: DeliveryState
    next_attempt_at: datetime | None = None
    created_at: datetime
    attempts: list[DeliveryAttempt]


class DeliveryList(BaseModel):
    """Deliveries, newest first."""

    data: list[WebhookDelivery]


def create_api(settings: ApiSettings) -> FastAPI:
    """The application; its lifespan closes the database."""
    database = Database(settings.database_url.get_secret_value(), application_name="milena-callback-api")
    store = CallbackStore(database)
    keys = KeyLookup(AccessStore(database))

    @asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        yield
        await database.close()

    app = FastAPI(title="Milena callback", docs_url=None, redoc_url=None, lifespan=live)
    setup_web(app, settings, {"postgresql": database.check}, body_limit=_BODY_LIMIT)

    @app.get(
        "/v1/webhooks/deliveries",
        tags=["Webhooks"],
        summary="Callback requests of a mail",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 422, 503),
    )
    async def list_deliveries(
        request: Request, email_id: Annotated[UUID, Query(description="the mail's id")]
    ) -> DeliveryList:
        """List the callback requests of one mail of the account, with every attempt; at most 100, newest first."""
        key = await authenticate(request, keys, ApiScope.EMAILS_READ)
        try:
            found = await store.list_of_email(email_id, key.account, _SHOWN)
        except DatabaseUnavailable as exc:
            raise Problem(503, "unavailable", "The database does not answer; try again.") from exc
        return DeliveryList.model_validate({"data": found}, from_attributes=True)

    add_schemas(app, ProblemDocument)
    return app
