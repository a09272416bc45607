"""A stream as Server-Sent Events (WHATWG HTML §9.2)."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from shared.live.events import Message
from shared.live.streams import CONTROLS, HEARTBEAT
from shared.metrics import LIVE_EVENTS

RETRY_MS = 2000
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

Opening = AbstractAsyncContextManager[AsyncIterator[Sequence[Message]]]


class EventStream(Response):
    """Opens the stream when it is its turn to answer, so that what opening raises is still an answer of its own."""

    media_type = "text/event-stream"

    def __init__(self, opening: Opening | None = None) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._opening = opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, until the stream ends or the caller leaves."""
        assert self._opening is not None
        async with self._opening as stream:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await run_until_left(_write(stream, send), _wait_for_leave(receive))


async def run_until_left(writing: Coroutine[object, object, None], leaving: Coroutine[object, object, None]) -> None:
    """Write until that has come to its end, or the reader is gone. Raises what writing raises."""
    tasks = asyncio.ensure_future(writing), asyncio.ensure_future(leaving)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if not tasks[0].cancelled():
        tasks[0].result()


async def _write(stream: AsyncIterator[Sequence[Message]], send: Send) -> None:
    await _send(send, b"retry: %d\n\n" % RETRY_MS)
    async for messages in stream:
        await _send(send, b"".join(map(render, messages)))
        LIVE_EVENTS.labels(kind="sse").inc(count_events(messages))
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def count_events(messages: Sequence[Message]) -> int:
    """How many of them tell of something that happened."""
    return sum(each.type not in CONTROLS for each in messages)


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


def render(message: Message) -> bytes:
    """One message on the wire. A heartbeat moves the reader's last id on and is no event."""
    if message.type == HEARTBEAT:
        return b": heartbeat\nid: %b\n\n" % message.id.encode()
    head = b"id: %b\n" % message.id.encode() if message.id else b""
    return b"%bevent: %b\ndata: %b\n\n" % (head, message.type.encode(), message.payload)


async def _wait_for_leave(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
