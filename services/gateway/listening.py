"""The routes by which an application or a page listens: live events over SSE or a WebSocket, and tickets."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import FastAPI, Header, Query, Request, Response, WebSocket
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import HTTPConnection

from shared.access import ApiScope, KeyLookup, digest_key
from shared.apidocs import describe_problems
from shared.authenticating import authenticate, read_bearer
from shared.events import format_time, list_errors
from shared.live import (
    Door,
    EventStream,
    InvalidPosition,
    Live,
    LiveEvent,
    LiveUnavailable,
    Message,
    Position,
    TicketOffice,
    answer_too_many,
    read_position,
    serve_websocket,
)
from shared.live import Request as LiveRequest
from shared.problems import Problem, invalid_content
from shared.serving import find_stopping

_SCOPE = ApiScope.EMAILS_READ
_EXAMPLE = """\
retry: 2000

: heartbeat
id: AQLAr-2BwDMCBQcCAwM

id: AQLs_O2BwDMCBQgCAwM
event: email.sent
data: {"ce_id":"…","id":"01890a5d-ac96-774b-bcce-b302099a8057","recipients":["ann@example.org"],"complete":true,…}

"""


class TicketQuery(BaseModel):
    """What a ticket is to open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: Literal["emails:read", "mailings:admin"] = Field(
        default="emails:read", description="of the key, and of what the ticket opens"
    )


class LiveQuery(BaseModel):
    """What a stream gives. Filters hold together: an event has to match each one given."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    email_id: UUID | None = None
    tag: str | None = Field(default=None, max_length=200)
    mailing_id: str | None = Field(default=None, max_length=200)
    batch_id: str | None = Field(default=None, max_length=200)
    type: Literal["email.sent", "email.failed"] | None = None
    ticket: str | None = Field(default=None, max_length=300, description="instead of the Authorization header")
    last_event_id: str | None = Field(
        default=None, max_length=100_000, description="as the header `Last-Event-ID`, which counts where both are given"
    )

    def wants(self, event: LiveEvent) -> bool:
        """Whether the event matches every filter."""
        data = event.data
        return (
            (self.type is None or self.type == event.type)
            and (self.email_id is None or str(self.email_id) == data.get("id"))
            and (self.tag is None or self.tag in (data.get("tags") or ()))
            and (self.mailing_id is None or self.mailing_id == data.get("mailing_id"))
            and (self.batch_id is None or self.batch_id == data.get("batch_id"))
        )


class LiveTicket(BaseModel):
    """What lets a page open streams for a minute."""

    ticket: str = Field(examples=["lt_AAAAAGkp…"], description="`GET /v1/events?ticket=…`")
    expires_at: str = Field(examples=["2026-01-31T09:01:00.000Z"])


def setup_listening(
    app: FastAPI, keys: KeyLookup, live: Live, office: TicketOffice, allowed_origins: tuple[str, ...]
) -> None:
    """Add `GET /v1/events`, also as a WebSocket, and `POST /v1/live/tickets`."""
    door = Door(keys, office, _SCOPE, allowed_origins)

    @app.get(
        "/v1/events",
        tags=["Live"],
        summary="Delivery events as they happen",
        status_code=200,
        response_class=EventStream,
        responses={
            200: {"description": "Events until you leave", "content": {EventStream.media_type: {"example": _EXAMPLE}}},
            **describe_problems(401, 403, 422, 429, 503),
        },
    )
    async def stream_events(
        request: Request,
        query: Annotated[LiveQuery, Query()],
        last_event_id: Annotated[str | None, Header(max_length=100_000)] = None,
    ) -> Response:
        """Server-Sent Events: the account's `email.sent` and `email.failed`, as docs/events.md has them.

        `data` is the event with its identity as `ce_id`; `id` is where you are in the stream: give the last one to go
        on without missing an event, also at another process. What lies too far back is answered by an event `gap`
        with `missing_from`. A reader that does not keep up gets an event `dropped`, and the stream ends. The same
        address takes a WebSocket; a message is then `{id, type, data}`.
        """
        return EventStream(_open(live, door, request, query, last_event_id, "sse"))

    @app.websocket("/v1/events")
    async def talk(socket: WebSocket) -> None:
        try:
            door.check_origin(socket)
            query = _read_query(socket)
            last_event_id = socket.headers.get("last-event-id")
            await serve_websocket(socket, _open(live, door, socket, query, last_event_id, "websocket"))
        except Problem as problem:
            await socket.send_denial_response(problem.to_response())

    @app.post(
        "/v1/live/tickets",
        tags=["Live"],
        summary="A ticket for a browser",
        status_code=201,
        responses=describe_problems(401, 403, 422, 503),
    )
    async def issue_ticket(request: Request, response: Response, query: Annotated[TicketQuery, Query()]) -> LiveTicket:
        """Lets a page open `GET /v1/events?ticket=…`, or what shows a batch, for 60 s; with the scope `mailings:admin`
        what shows a mailing. Your server asks for it, with its API key.

        It may be used more than once within that time. The stream goes on beyond it, for as long as the key is good.
        """
        scope = ApiScope(query.scope)
        await authenticate(request, keys, scope)
        written, ticket = office.issue(digest_key(read_bearer(request) or ""), scope)
        response.headers["Cache-Control"] = "no-store"
        return LiveTicket(ticket=written, expires_at=format_time(ticket.expires_at))


@asynccontextmanager
async def _open(
    live: Live, door: Door, caller: HTTPConnection, query: LiveQuery, last_event_id: str | None, kind: str
) -> AsyncIterator[AsyncIterator[Sequence[Message]]]:
    """A stream. Raises Problem 401, 403, 422, 429, 503."""
    key, is_allowed = await door.admit(caller, query.ticket)
    since = _read_since(last_event_id or query.last_event_id)
    request = LiveRequest(key.account, query.wants, since, is_allowed, find_stopping(caller.scope))
    try:
        with answer_too_many():
            async with live.open(request, kind) as stream:
                yield stream
    except InvalidPosition:
        raise _refuse_position() from None
    except LiveUnavailable as exc:
        raise Problem(503, "unavailable", "Kafka cannot be read at the moment; try again.") from exc


def _read_query(socket: WebSocket) -> LiveQuery:
    try:
        given: Any = dict(socket.query_params)
        return LiveQuery.model_validate(given)
    except ValidationError as exc:
        raise invalid_content(list_errors(exc, "/query")) from None


def _read_since(text: str | None) -> Position | None:
    if not text:
        return None
    try:
        return read_position(text)
    except InvalidPosition:
        raise _refuse_position() from None


def _refuse_position() -> Problem:
    detail = "not an id of this stream: pass the last `id` as it came, or none to begin now"
    return invalid_content([{"detail": detail, "pointer": "/query/last_event_id"}])
