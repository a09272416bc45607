"""The callback service's HTTP API: what was told to whom, and what they answered."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, Field

from services.callback.deliveries import DeliveryState
from services.callback.settings import ApiSettings
from services.callback.store import CallbackStore
from shared.access import ApiScope
from shared.apidocs import describe_problems
from shared.applications import create_database_api
from shared.authenticating import authenticate

PREFIXES = ("/v1/webhooks",)
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
    api = create_database_api("callback", settings, settings.database_url.get_secret_value())
    app, store = api.app, CallbackStore(api.database)

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
        key = await authenticate(request, api.keys, ApiScope.EMAILS_READ)
        found = await store.list_of_email(email_id, key.account, _SHOWN)
        return DeliveryList.model_validate({"data": found}, from_attributes=True)

    return app
