"""/v1/relays: where mail goes, and how that is going."""

from datetime import datetime
from typing import Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from services.sender.routes.operators import Authorize
from services.sender.store.shares import RelayState, ShareStore
from shared.apidocs import describe_problems

BreakerState = Literal["closed", "trial", "open"]


class RelayUser(BaseModel):
    """A relay as one running sender process sees it."""

    slot: int
    state: BreakerState = Field(description="the breaker: `closed` lets mail through, `trial` one, `open` none")
    error: str | None = Field(default=None, description="its last trouble, while it lasts; also a pause it asked for")
    open_connections: int
    connections: int = Field(description="this process's share of them")
    mails_per_second: float | None = Field(default=None, description="this process's share; absent: no limit")
    sent_rate: float = Field(description="mails it began per second of late")
    slowed_to: float | None = Field(default=None, description="mails per second, since the relay asked for fewer")
    updated_at: datetime


class RelayEntry(BaseModel):
    """A relay, with its limits for all sender processes together."""

    name: str
    kind: str
    priority: int = Field(description="the lowest is tried first")
    available: bool = Field(description="whether any process can send through it")
    connections: int
    mails_per_second: float | None = None
    open_connections: int = Field(description="of all processes")
    sent_rate: float = Field(description="of all processes")
    processes: list[RelayUser]


class RelayList(BaseModel):
    """Relays by priority."""

    data: list[RelayEntry]


def setup_relays(app: FastAPI, authorize: Authorize, store: ShareStore) -> None:
    """Add the route."""

    @app.get(
        "/v1/relays",
        tags=["Relays"],
        summary="Where mail goes",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 503),
    )
    async def list_relays(request: Request) -> RelayList:
        """List the relays that running senders use, as they told within the last seconds."""
        await authorize(request)
        return RelayList(data=[_show(each) for each in await store.list_relays()])


def _show(relay: RelayState) -> RelayEntry:
    return RelayEntry(
        name=relay.name,
        kind=relay.kind,
        priority=relay.priority,
        available=any(each.state != "open" for each in relay.processes),
        connections=relay.connections,
        mails_per_second=relay.mails_per_second,
        open_connections=sum(each.open_connections for each in relay.processes),
        sent_rate=round(sum(each.sent_rate for each in relay.processes), 1),
        processes=[
            RelayUser(
                slot=each.slot,
                state=_read_state(each.state),
                error=each.error,
                open_connections=each.open_connections,
                connections=each.connections,
                mails_per_second=each.rate,
                sent_rate=round(each.sent_rate, 1),
                slowed_to=each.slowed_to,
                updated_at=each.updated_at,
            )
            for each in relay.processes
        ],
    )


def _read_state(state: str) -> BreakerState:
    return "open" if state == "open" else "trial" if state == "trial" else "closed"
