"""How every API process listens."""

import asyncio
import contextlib
import logging
import socket
from typing import Any

import httptools
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from shared.settings import HttpSettings

STOP_GRACE_S = 10
STALLED_S, STALLED_AT_STOP_S = 30.0, 1.0
"""How long a caller may take nothing of what is written to him, and how long once the process is to stop."""
MESSAGE_LIMIT = 16 * 1024
"""Bytes of a WebSocket message from a caller."""
_STOPPING = "stopping"
HEAD_LIMIT = 64 * 1024
"""Bytes of a request's line and headers."""
_HELD_LIMIT = 16 * 1024  # bytes; more is not worth copying


class JoinedWrites:
    """A transport that writes at once what is written in one turn of the loop.

    uvicorn writes an answer's head and its body apart, and uvloop hands each to the kernel at once: two packets, and a
    caller who wakes up twice. Measured, half of what a mail costs the gateway's API was in write(2).
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Hold the data until the end of this turn; a large piece goes out with what is held."""
        if not self._held and len(data) < _HELD_LIMIT:
            asyncio.get_running_loop().call_soon(self._flush)
        self._held.append(data)
        if len(data) >= _HELD_LIMIT:
            self._flush()

    def close(self) -> None:
        """Write what is held, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held and not self._transport.is_closing():
            self._transport.write(b"".join(self._held))
        self._held.clear()


class CutsOffStalled(asyncio.Protocol):
    """Ends the connection of a caller who reads nothing: closing it would wait for him to take what was written."""

    transport: asyncio.Transport
    _cutting: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """More is written than the caller has taken."""
        super().pause_writing()
        self._cut_off_in(STALLED_S)

    def resume_writing(self) -> None:
        """He has taken most of it."""
        super().resume_writing()
        self._forgive()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        super().connection_lost(exc)
        self._forgive()

    def shutdown(self) -> None:
        """The process is to stop."""
        super().shutdown()  # type: ignore[misc]  # uvicorn's protocols have it
        if self._cutting:
            self._cut_off_in(STALLED_AT_STOP_S)

    def _cut_off_in(self, seconds: float) -> None:
        self._forgive()
        self._cutting = asyncio.get_running_loop().call_later(seconds, self.transport.abort)

    def _forgive(self) -> None:
        if self._cutting:
            self._cutting.cancel()
        self._cutting = None


class _H11(CutsOffStalled, H11Protocol):
    pass


class WebSocketProtocol(CutsOffStalled, WebSocketsSansIOProtocol):
    """uvicorn's, which logs every address with its query at INFO; a query may hold a ticket."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = self.conn.logger = logging.getLogger("uvicorn.error.websocket")
        self.logger.setLevel(logging.WARNING)
        self.conn.debug = False


class HttpProtocol(CutsOffStalled, HttpToolsProtocol):
    """uvicorn's protocol on httptools, with what that lacks. It costs 240 µs of CPU a request less than h11.

    httptools knows no limit: a head without end would fill memory. And it drops the body of a request that offers
    another protocol, as Java's HTTP client does with every first one (`Upgrade: h2c`); h11 reads such connections.
    """

    _unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller has connected."""
        super().connection_made(JoinedWrites(transport))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        """Bytes of the connection. 400 and a closed connection for a head beyond HEAD_LIMIT."""
        self._unset_keepalive_if_required()
        self._unread += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            return self._hand_over(data[offer.args[0] :])
        except httptools.HttpParserError:
            return self._refuse("Invalid HTTP request received.")
        if self._unread > HEAD_LIMIT:
            self._refuse("The request's line and headers are too long.")

    def on_headers_complete(self) -> None:
        """The parser has read a head."""
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The parser has read a piece of a body; how much of that may wait is for flow control."""
        self._unread = 0
        super().on_body(body)

    def _refuse(self, why: str) -> None:
        self.logger.warning(why)
        self.send_400_response(why)

    def _should_upgrade(self) -> bool:
        return True  # no request that offers it goes to the application from here

    def _hand_over(self, rest: bytes) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            return self.transport.close()  # sent before the answer to the one before: nobody does
        self.connections.discard(self)
        lines = [b"%b %b HTTP/%b" % (self.scope["method"].encode(), self.url, self.scope["http_version"].encode())]
        lines += [b"%b: %b" % header for header in self.scope["headers"]]
        successor = _H11(self.config, self.server_state, self.app_state)
        successor.connection_made(self.transport)
        self.transport.set_protocol(successor)
        successor.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)


class ApiServer(uvicorn.Server):
    """Tells the application that the process is to stop before it waits for open requests."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and listen."""
        self._stopping = asyncio.Event()
        self.lifespan.state[_STOPPING] = self._stopping
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, wait for what is at work, stop the application."""
        self._stopping.set()
        await super().shutdown(sockets)


def find_stopping(scope: Scope) -> asyncio.Event | None:
    """What is set once the process is to stop: an answer without end ends then. None under another server."""
    event: asyncio.Event | None = scope.get("state", {}).get(_STOPPING)
    return event


def configure(app: ASGIApp, settings: HttpSettings, **options: Any) -> uvicorn.Config:
    """What every API's server is like."""
    return uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        loop="uvloop",
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=MESSAGE_LIMIT,
        ws_per_message_deflate=False,  # memory for each connection, and CPU for each message of each
        log_config=None,
        access_log=False,
        proxy_headers=False,  # MILENA_TRUSTED_PROXIES decides whom to believe
        server_header=False,
        timeout_graceful_shutdown=STOP_GRACE_S,
        **options,
    )


def serve(app: ASGIApp, settings: HttpSettings, **options: Any) -> None:
    """Serve until SIGTERM or SIGINT; requests at work get STOP_GRACE_S seconds. `options`: of uvicorn, further ones."""
    server = ApiServer(configure(app, settings, **options))
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn has stopped in order, then raises what it was sent
        server.run()
