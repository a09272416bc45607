"""Refusing requests before memory grows: 503 at once for some, rather than a process that is killed for all.

What a request holds is its body, several times over while it is read, checked and written again (docs/limits.md has
the measurement), and some 50 KiB beside it. Both are bounded, for the whole application.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.metrics import HTTP_BYTES_IN_FLIGHT, HTTP_REQUESTS_IN_FLIGHT, REQUESTS_SHED
from shared.problems import Problem

UNREAD = 64 * 1024
"""Bytes of a body that the server takes from a connection before anybody asks for them."""
STREAMED = 4 * 1024 * 1024
"""Bytes that a body counts for which is worked on as it comes, however long it is."""
_NEVER = frozenset({"/healthz", "/readyz", "/metrics"})


class LoadShedding:
    """503 for a request too many, or for a body for which there is no room.

    A request counts until its answer begins, so a stream that goes on for hours counts for a moment. Of a body what
    has come counts, not what was declared, so whoever declares much and sends nothing takes nobody's room; where what
    is declared will not fit, it is refused before it is read. A body that is alone is always taken.
    """

    def __init__(
        self, app: ASGIApp, *, name: str, requests: int, size: int, streamed: frozenset[str] = frozenset()
    ) -> None:
        """`size`: bytes of bodies. `name`: of the application, for the metrics. `streamed`: see setup_web."""
        self._app = app
        self._streamed = streamed
        self._requests_limit = requests
        self._bytes_limit = size
        self._requests = 0
        self._bytes = 0
        for why in ("requests", "bytes"):
            REQUESTS_SHED.labels(why=why)  # 0 is told, too
        HTTP_REQUESTS_IN_FLIGHT.labels(api=name).set_function(lambda: self._requests)
        HTTP_BYTES_IN_FLIGHT.labels(api=name).set_function(lambda: self._bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http" or scope["path"] in _NEVER:
            return await self._app(scope, receive, send)
        declared, is_streamed = _measure(scope), scope["path"] in self._streamed
        if is_streamed:
            declared = STREAMED if declared is None else min(declared, STREAMED)
        if self._requests >= self._requests_limit:
            return await _shed("requests").to_response(scope["state"]["request_id"])(scope, receive, send)
        if declared != 0 and self._bytes and self._bytes + (declared or 0) > self._bytes_limit:
            return await _shed("bytes").to_response(scope["state"]["request_id"])(scope, receive, send)
        if is_streamed:
            place = _Place(self, declared or 0)
        else:
            place = _Place(self, UNREAD if declared is None else min(declared, UNREAD))
        if not is_streamed and (declared is None or declared > UNREAD):
            receive = place.count(receive)
        try:
            await self._app(scope, receive, place.watch(send))
        finally:
            place.leave()

    def hold(self, requests: int, size: int) -> None:
        """Count what has come, or (negative) what has gone."""
        self._requests += requests
        self._bytes += size

    def is_too_much(self, size: int) -> bool:
        """Whether a body of which `size` has come is too much beside the others."""
        return self._bytes > self._bytes_limit and self._bytes > size


class _Place:
    """What one request holds."""

    __slots__ = ("_held", "_shedding")

    def __init__(self, shedding: LoadShedding, size: int) -> None:
        self._shedding: LoadShedding | None = shedding
        self._held = size
        shedding.hold(1, size)

    def leave(self) -> None:
        """Give it back, once."""
        if self._shedding:
            self._shedding.hold(-1, -self._held)
            self._shedding = None

    def count(self, receive: Receive) -> Receive:
        """Count a body as it comes; what is charged from the beginning is its first part."""
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._held and self._shedding:
                self._shedding.hold(0, received - self._held)
                self._held = received
                if self._shedding.is_too_much(received):
                    self.leave()
                    raise _shed("bytes")
            return message

        return receive_counted

    def watch(self, send: Send) -> Send:
        """Leave as soon as there is an answer."""

        async def send_and_leave(message: Message) -> None:
            self.leave()
            await send(message)

        return send_and_leave


def _measure(scope: Scope) -> int | None:
    """Bytes of the body as declared; None where it comes in chunks."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
        if name == b"transfer-encoding":
            return None
    return 0


def _shed(why: str) -> Problem:
    REQUESTS_SHED.labels(why=why).inc()
    return Problem(503, "overloaded", "Too much is being worked on at the moment. Nothing was done; try again.")
