"""The address under which something is watched as it runs: streams of state over SSE, and over a WebSocket."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Header, Path, Query, Request, Response, WebSocket
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.access import ApiKey, ApiScope
from shared.apidocs import describe_problems
from shared.events import list_errors
from shared.live.door import Door, answer_too_many
from shared.live.events import Message
from shared.live.polling import Poller, Snapshot, ViewRequest
from shared.live.sse import EventStream
from shared.live.websocket import serve_websocket
from shared.problems import Problem, invalid_content
from shared.serving import find_stopping


class WatchQuery(BaseModel):
    """How a page says what it cannot say in a header."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    ticket: str | None = Field(default=None, max_length=300, description="instead of the Authorization header")
    last_event_id: str | None = Field(
        default=None, max_length=100, description="as the header `Last-Event-ID`, which counts where both are given"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What there is to be watched. `path` begins at the root, and has `{noun_id}` in it.

    `find`: how the account's one of this id stands, None where it has none; `look`: how all of these stand, for a
    Poller. Both raise Unavailable. `scope`: of the keys that may watch. `example`: a stream.
    """

    noun: str
    path: str
    tag: str
    summary: str
    description: str
    example: str
    scope: ApiScope
    find: Callable[[UUID, ApiKey], Awaitable[Snapshot | None]]
    look: Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, Snapshot]]]

    async def find_or_refuse(self, thing_id: UUID | str, key: ApiKey) -> tuple[UUID, Snapshot]:
        """How it stands. Raises Problem 404, also of what is no id."""
        try:
            known = UUID(str(thing_id))
        except ValueError:
            known = None
        snapshot = await self.find(known, key) if known else None
        if known is None or snapshot is None:
            raise Problem(404, "not-found", f"Your account has no such {self.noun}.")
        return known, snapshot


def setup_sight(app: FastAPI, sight: Sight, poller: Poller[UUID], door: Door) -> None:
    """Add the address, for both ways to listen."""

    @app.get(
        sight.path,
        name=f"stream_{sight.noun}",
        tags=[sight.tag],
        summary=sight.summary,
        description=sight.description,
        status_code=200,
        response_class=EventStream,
        responses={
            200: {
                "description": "How it stands, until it is finished",
                "content": {EventStream.media_type: {"example": sight.example}},
            },
            204: {"description": "It is finished, and the last event was told: there is nothing to reconnect for"},
            **describe_problems(401, 403, 404, 422, 429, 503),
        },
    )
    async def stream(
        request: Request,
        thing_id: Annotated[UUID, Path(alias=f"{sight.noun}_id", description=f"the {sight.noun}'s id")],
        query: Annotated[WatchQuery, Query()],
        last_event_id: Annotated[str | None, Header(max_length=100)] = None,
    ) -> Response:
        key, is_allowed = await door.admit(request, query.ticket)
        thing_id, snapshot = await sight.find_or_refuse(thing_id, key)
        since = last_event_id or query.last_event_id
        if snapshot.is_last and snapshot.message.id == since:
            return Response(status_code=204)
        view = ViewRequest(thing_id, key.account, since, is_allowed, find_stopping(request.scope))
        return EventStream(_watch(poller, view, "sse"))

    @app.websocket(sight.path)
    async def talk(socket: WebSocket) -> None:
        try:
            door.check_origin(socket)
            query = _read_query(socket)
            key, is_allowed = await door.admit(socket, query.ticket)
            thing_id, _ = await sight.find_or_refuse(socket.path_params[f"{sight.noun}_id"], key)
            since = socket.headers.get("last-event-id") or query.last_event_id
            view = ViewRequest(thing_id, key.account, since, is_allowed, find_stopping(socket.scope))
            await serve_websocket(socket, _watch(poller, view, "websocket"))
        except Problem as problem:
            await socket.send_denial_response(problem.to_response())


@asynccontextmanager
async def _watch(
    poller: Poller[UUID], request: ViewRequest[UUID], kind: str
) -> AsyncIterator[AsyncIterator[Sequence[Message]]]:
    with answer_too_many():
        async with poller.open(request, kind) as stream:
            yield stream


def _read_query(socket: WebSocket) -> WatchQuery:
    given: Any = dict(socket.query_params)
    try:
        return WatchQuery.model_validate(given)
    except ValidationError as exc:
        raise invalid_content(list_errors(exc, "/query")) from None
