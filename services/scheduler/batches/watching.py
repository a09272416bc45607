"""`GET /v1/batches/{id}/events`: a batch as it runs, over SSE or a WebSocket."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Header, Query, Request, Response, WebSocket
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import HTTPConnection

from services.scheduler.batches.answers import show_batch
from services.scheduler.batches.control import BatchId, find_batch
from services.scheduler.batches.examples import EVENTS_EXAMPLE
from services.scheduler.batches.progress import Batch, BatchState
from services.scheduler.batches.store import BatchStore
from shared.access import ApiKey
from shared.apidocs import describe_problems
from shared.events import list_errors
from shared.live import (
    Door,
    EventStream,
    Message,
    Poller,
    Snapshot,
    ViewRequest,
    answer_too_many,
    serve_websocket,
)
from shared.problems import Problem, invalid_content
from shared.serving import find_stopping

_PROGRESS, _FINISHED = "batch.progress", "batch.finished"


class WatchQuery(BaseModel):
    """How a page says what it cannot say in a header."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    ticket: str | None = Field(default=None, max_length=300, description="instead of the Authorization header")
    last_event_id: str | None = Field(
        default=None, max_length=100, description="as the header `Last-Event-ID`, which counts where both are given"
    )


class BatchLook:
    """What viewers are shown, looked up for all of them at once."""

    def __init__(self, store: BatchStore) -> None:
        self._store = store

    async def look(self, ids: Sequence[UUID]) -> Mapping[UUID, Snapshot]:
        """How batches stand. Raises Unavailable."""
        return {batch.id: make_snapshot(batch) for batch in await self._store.find_all(ids)}


def make_snapshot(batch: Batch) -> Snapshot:
    """What is told of a batch; the last of one that is over."""
    is_last = batch.finished_at is not None or batch.state is BatchState.ABORTED
    payload = show_batch(batch).model_dump_json(exclude_none=True).encode()
    return Snapshot(Message(batch.revision, _FINISHED if batch.finished_at else _PROGRESS, payload), is_last)


def setup_watching(app: FastAPI, store: BatchStore, poller: Poller[UUID], door: Door) -> None:
    """Add `GET /v1/batches/{id}/events`, also as a WebSocket."""

    @asynccontextmanager
    async def watch(
        caller: HTTPConnection, batch: Batch, key: ApiKey, is_allowed: Any, since: str | None, kind: str
    ) -> AsyncIterator[AsyncIterator[Sequence[Message]]]:
        request = ViewRequest(batch.id, key.account, since, is_allowed, find_stopping(caller.scope))
        with answer_too_many():
            async with poller.open(request, kind) as stream:
                yield stream

    @app.get(
        "/v1/batches/{batch_id}/events",
        tags=["Batches"],
        summary="A batch as it runs",
        status_code=200,
        response_class=EventStream,
        responses={
            200: {
                "description": "How it stands, until it is finished",
                "content": {EventStream.media_type: {"example": EVENTS_EXAMPLE}},
            },
            204: {"description": "It is finished, and the last event was told: there is nothing to reconnect for"},
            **describe_problems(401, 403, 404, 422, 429, 503),
        },
    )
    async def stream_batch(
        request: Request,
        batch_id: BatchId,
        query: Annotated[WatchQuery, Query()],
        last_event_id: Annotated[str | None, Header(max_length=100)] = None,
    ) -> Response:
        """Server-Sent Events: `batch.progress`, first at once and then about every second while something changes,
        and `batch.finished` at the end, after which the stream ends. `data` is the batch as `GET /v1/batches/{id}`
        has it. Events are how it stands, no history: who comes back is told how it stands then, unless the id he was
        told last says that he knows. The same address takes a WebSocket; a message is then `{id, type, data}`. A page
        uses a ticket (`POST /v1/live/tickets`).
        """
        key, is_allowed = await door.admit(request, query.ticket)
        batch = await find_batch(store, batch_id, key)
        since = last_event_id or query.last_event_id
        snapshot = make_snapshot(batch)
        if snapshot.is_last and snapshot.message.id == since:
            return Response(status_code=204)
        return EventStream(watch(request, batch, key, is_allowed, since, "sse"))

    @app.websocket("/v1/batches/{batch_id}/events")
    async def talk(socket: WebSocket, batch_id: str) -> None:
        try:
            door.check_origin(socket)
            query = _read_query(socket)
            key, is_allowed = await door.admit(socket, query.ticket)
            batch = await find_batch(store, _read_id(batch_id), key)
            since = socket.headers.get("last-event-id") or query.last_event_id
            await serve_websocket(socket, watch(socket, batch, key, is_allowed, since, "websocket"))
        except Problem as problem:
            await socket.send_denial_response(problem.to_response())


def _read_query(socket: WebSocket) -> WatchQuery:
    given: Any = dict(socket.query_params)
    try:
        return WatchQuery.model_validate(given)
    except ValidationError as exc:
        raise invalid_content(list_errors(exc, "/query")) from None


def _read_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Problem(404, "not-found", "Your account has no such batch.") from None
