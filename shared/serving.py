"""How every API process listens."""

import asyncio
import contextlib
import logging
import socket
from typing import Any

import h11
import httptools
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from shared.arrival import Arrival
from shared.problems import CONTENT_TYPE, Problem
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


class PatientH11Protocol(H11Protocol):
    """uvicorn's protocol on h11, for a connection that httptools has begun; with the same patience."""

    def __init__(self, *args: Any, receive_timeout_s: float) -> None:
        super().__init__(*args)
        self._arrival = Arrival(receive_timeout_s, lambda has_begun: _give_up(self, has_begun), lambda: _is_held(self))
        self._is_upgraded = False

    def data_received(self, data: bytes) -> None:
        """Bytes of the connection."""
        super().data_received(data)
        state = self.conn.their_state
        is_partial = state is h11.SEND_BODY or (state is h11.IDLE and bool(self.conn.trailing_data[0]))
        self._arrival.note(len(data), is_whole=self._is_upgraded or not is_partial)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Another protocol takes over, which has its own idea of time."""
        self._is_upgraded = True
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._arrival.end()
        super().connection_lost(exc)


class _H11(CutsOffStalled, PatientH11Protocol):
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

    httptools knows no limit: a head without end would fill memory, a body that never ends coming holds it. And it drops
    the body of a request that offers another protocol, as Java's HTTP client does with every first one (`Upgrade:
    h2c`); h11 reads such connections.
    """

    receive_timeout_s = 20.0  # see create_protocol
    _unread = 0
    _is_whole = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller has connected."""
        super().connection_made(JoinedWrites(transport))  # type: ignore[arg-type]
        self._arrival = Arrival(
            self.receive_timeout_s, lambda has_begun: _give_up(self, has_begun), lambda: _is_held(self)
        )
        self._arrival.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._arrival.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of the connection. 400 and a closed connection for a head beyond HEAD_LIMIT."""
        self._feed(data)
        self._arrival.note(len(data), is_whole=self._is_whole)

    def _feed(self, data: bytes) -> None:
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

    def on_message_begin(self) -> None:
        """The parser has seen the beginning of a request."""
        self._is_whole = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The parser has read a whole request."""
        self._is_whole = True
        super().on_message_complete()

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
        self._is_whole = True  # for what is outstanding waits the successor
        successor = _H11(self.config, self.server_state, self.app_state, receive_timeout_s=self.receive_timeout_s)
        successor.connection_made(self.transport)
        self.transport.set_protocol(successor)
        successor.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)


def create_protocol(settings: HttpSettings) -> type[HttpProtocol]:
    """The protocol that waits for requests as long as the settings say."""
    return type("HttpProtocol", (HttpProtocol,), {"receive_timeout_s": settings.http_receive_timeout_s})


def _is_held(protocol: HttpToolsProtocol | H11Protocol) -> bool:
    """Whether nothing is taken from the connection: what has come of a body has not been worked on yet."""
    return protocol.flow is not None and protocol.flow.read_paused


def _give_up(protocol: HttpProtocol | H11Protocol, has_begun: bool) -> None:
    """Close a connection whose request did not arrive in time; 408 where there is something to answer."""
    cycle = protocol.cycle
    is_answered = cycle is not None and cycle.response_started
    if has_begun and not is_answered and not protocol.transport.is_closing():
        protocol.transport.write(_write_late_answer())
    protocol.transport.close()


def _write_late_answer() -> bytes:
    detail = "The request did not arrive in time; send it faster, or in smaller parts."
    answer = Problem(408, "too-slow", detail).to_response()
    head = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (CONTENT_TYPE.encode(), len(answer.body)) + bytes(answer.body)


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
        http=create_protocol(settings),
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
