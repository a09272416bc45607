"""The envelope of `/api/tasks.*`: `{"data": …, "error": null, "success": true}`.

Every answer has it, also those that are given before a route is reached (401, 403, 404, 405, 413, 503 …): what leaves
the application as a problem document is put into `error` here, outside everything else.
"""

import orjson
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.problems import CONTENT_TYPE as PROBLEM

PREFIX = "/api/tasks."


class Envelopes:
    """Puts every problem that answers one of our paths into an envelope; a slash at the path's end means nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            return await self._app(scope, receive, send)
        await self._app({**scope, "path": scope["path"].rstrip("/")}, receive, _Wrapping(send).send)


class _Wrapping:
    """Holds a problem back until it is whole; everything else goes on as it comes."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._document = bytearray()

    async def send(self, message: Message) -> None:
        """Pass a message on, or keep it."""
        if message["type"] == "http.response.start" and _is_problem(message):
            self._start = message
        elif self._start is None or message["type"] != "http.response.body":
            await self._send(message)
        else:
            self._document += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_wrapped(self._start)

    async def _send_wrapped(self, start: Message) -> None:
        body = orjson.dumps({"data": None, "error": orjson.loads(self._document), "success": False})
        headers = MutableHeaders(raw=list(start["headers"]))
        headers["content-type"] = "application/json"
        headers["content-length"] = str(len(body))
        await self._send({**start, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})


def _is_problem(start: Message) -> bool:
    return any(name == b"content-type" and value == PROBLEM.encode() for name, value in start["headers"])
