"""A stream over a WebSocket: one JSON object a message, `{id, type, data}`."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import orjson
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from shared.live.events import Message
from shared.live.sse import Opening, count_events, run_until_left
from shared.live.streams import CLOSE_CODES
from shared.metrics import LIVE_EVENTS

_TURN = 50  # messages, after which what was written goes out


async def serve_websocket(socket: WebSocket, opening: Opening) -> None:
    """Accept, and write until the stream ends or the caller leaves; what opening raises comes before."""
    async with opening as stream:
        await socket.accept()
        await run_until_left(_write(stream, socket), _wait_for_leave(socket))


async def _write(stream: AsyncIterator[Sequence[Message]], socket: WebSocket) -> None:
    try:
        async for messages in stream:
            for number, message in enumerate(messages, 1):
                await socket.send_text(render(message))
                if number % _TURN == 0:
                    await asyncio.sleep(0)
            LIVE_EVENTS.labels(kind="websocket").inc(count_events(messages))
            if not messages[-1].id:
                said = orjson.loads(messages[-1].payload)
                return await socket.close(CLOSE_CODES[said["reason"]], said["detail"])
        await socket.close()  # 1000: there is nothing more to tell
    except WebSocketDisconnect:
        return None


def render(message: Message) -> str:
    """One message on the wire; `id` is null in the one that says why the stream ends."""
    written_id = b'"%b"' % message.id.encode() if message.id else b"null"
    return (b'{"id":%b,"type":"%b","data":%b}' % (written_id, message.type.encode(), message.payload)).decode()


async def _wait_for_leave(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
