"""The middlewares of every API, plain ASGI: Starlette's BaseHTTPMiddleware costs more than accepting a mail does.

(A task and two streams for each request.) `setup_web` puts them before FastAPI's own stack, which answers for bugs,
reads the environment for telemetry, and has no say in what is hot.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from random import getrandbits
from types import MappingProxyType
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.networks import contains, find_caller
from shared.problems import Problem
from shared.quotas import Quota
from shared.settings import Network
from shared.tracing import SpanKind, begin_hop

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_ID_IN_PATH = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=/)\d+(?=/|$)")

Endpoint = Callable[[Request], Awaitable[Response]]


class RequestId:
    """Takes `X-Request-ID` where it is sane, mints one otherwise; `request.state.request_id` and the answer have it.

    The answer also says what the caller's key has left, once `authenticate` knows the key.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = _find_header(scope, b"x-request-id")
        request_id = given if given and _SANE_REQUEST_ID.fullmatch(given) else b"%032x" % getrandbits(128)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id.decode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                quota: Quota | None = state.get("quota")
                left = quota.write_headers() if quota else ()
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id), *left]
            await send(message)

        await self._app(scope, receive, send_with_id)


class TraceRequests:
    """A span for each request; what the request asks for follows from it, by the `traceparent` it then has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = _find_header(scope, b"traceparent")
        name = f"{scope['method']} {_ID_IN_PATH.sub('{id}', scope['path'])}"
        hop = begin_hop(name, SpanKind.SERVER, given.decode("latin-1") if given else None)
        others = [header for header in scope["headers"] if header[0] != b"traceparent"]
        status = 500

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            headers = [*others, (b"traceparent", hop.traceparent.encode())]
            await self._app({**scope, "headers": headers}, receive, send_noting)
        finally:
            told = {"http.response.status_code": status, "milena.request_id": scope["state"]["request_id"]}
            hop.end(error="internal error" if status >= 500 else None, attributes=told)


class AllowedNetworks:
    """403 for callers outside the allowed networks; `/healthz` is open, paths that begin like `others` have their own.

    The caller is the peer, unless the peer is a trusted proxy: then the right-most address in `X-Forwarded-For`
    that is no trusted proxy. Whatever stands further left was written by the caller himself. `request.state.caller` is
    the address, for keys that are limited to networks.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed: tuple[Network, ...],
        others: Mapping[str, tuple[Network, ...]],
        trusted_proxies: tuple[Network, ...],
    ) -> None:
        self._app = app
        self._allowed = allowed
        self._others = others
        self._beginnings = tuple(others)
        self._trusted = trusted_proxies
        self._judged = lru_cache(maxsize=4096)(self._judge)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan" or scope["path"] == "/healthz":
            return await self._app(scope, receive, send)
        client = scope.get("client")
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        peer = client[0] if client else ""
        path = scope["path"]
        begins = self._find_beginning(path) if path.startswith(self._beginnings) else ""
        may_call, caller = self._judged(peer, forwarded.decode("latin-1"), begins)
        if may_call:
            scope.setdefault("state", {})["caller"] = caller
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        problem = Problem(403, "network-not-allowed", "Requests from this network are not allowed.")
        await problem.to_response(scope["state"].get("request_id"))(scope, receive, send)

    def _find_beginning(self, path: str) -> str:
        return next(each for each in self._beginnings if path.startswith(each))

    def _judge(self, peer: str, forwarded: str, begins: str) -> tuple[bool, IPv4Address | IPv6Address | None]:
        caller = find_caller(peer, forwarded, self._trusted)
        allowed = self._others.get(begins, self._allowed)
        return caller is not None and contains(allowed, caller), caller


class BodyLimit:
    """413 for a body over the limit: at once where Content-Length says so, otherwise as soon as it is exceeded."""

    def __init__(
        self, app: ASGIApp, *, limit: int, note: str = "", by_path: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self._app = app
        self._limit = limit
        self._note = note
        self._by_path = by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        limit = self._by_path.get(scope["path"], self._limit)
        declared = _find_header(scope, b"content-length")
        if declared is not None and declared.isdigit():
            # The server holds the client to what it declared, so nothing needs counting.
            if len(declared) < 19 and int(declared) <= limit:
                return await self._app(scope, receive, send)
            response = self._too_large(limit).to_response(scope.get("state", {}).get("request_id"))
            return await response(scope, receive, send)
        await self._app(scope, self._count(receive, limit), send)

    def _count(self, receive: Receive, limit: int) -> Receive:
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise self._too_large(limit)
            return message

        return receive_counted

    def _too_large(self, limit: int) -> Problem:
        detail = f"The request body may have at most {limit} bytes."
        return Problem(413, "too-large", f"{detail} {self._note}".strip(), limit=limit)


class HotPosts:
    """Serves POST to a few exact paths without a router: behind all other middlewares, before FastAPI's own stack.

    That stack (handlers of exceptions twice, an exit stack, matching, dependencies) costs as much as accepting a mail.
    `handlers`: those of the app, so that every error leaves as it does elsewhere. A bug is answered, then raised, for
    the server's log.
    """

    def __init__(
        self, app: ASGIApp, *, endpoints: Mapping[str, Endpoint], handlers: Mapping[Any, Callable[..., Any]]
    ) -> None:
        self._app = app
        self._endpoints = endpoints
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        endpoint = self._endpoints.get(scope["path"]) if is_post else None
        if endpoint is None:
            return await self._app(scope, receive, send)
        request = Request(scope, receive, send)
        bug: Exception | None = None
        try:
            response = await endpoint(request)
        except Exception as exc:
            handle = self._find_handler(type(exc))
            bug = exc if handle is self._handlers[Exception] else None
            response = await handle(request, exc)
        await response(scope, receive, send)
        if bug:
            raise bug

    def _find_handler(self, kind: type[Exception]) -> Callable[..., Any]:
        return next(self._handlers[each] for each in kind.__mro__ if each in self._handlers)


def _find_header(scope: Scope, name: bytes) -> bytes | None:
    value: bytes
    for key, value in scope["headers"]:
        if key == name:
            return value
    return None
