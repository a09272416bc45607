"""What every API has: request ids, who may call, how much may be sent, health and metrics, problems.

`setup_web` is called once per application, before the first request. The middlewares are plain ASGI: Starlette's
BaseHTTPMiddleware costs a task and two streams for each request, more than accepting a mail does. They stand before
FastAPI's own stack, which answers for bugs, reads the environment for telemetry, and has no say in what is hot.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from random import getrandbits
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.access import AccessUnavailable, ApiKey, ApiScope, KeyLookup
from shared.apidocs import describe_common
from shared.health import Check, run_checks
from shared.metrics import CONTENT_TYPE, RATE_LIMITED, render_metrics
from shared.networks import contains, find_caller
from shared.problems import Problem, setup_problems
from shared.problems_page import list_routes
from shared.quotas import MAILS, REQUESTS, Exhausted, Quota, Quotas
from shared.settings import HttpSettings, Network
from shared.shedding import LoadShedding
from shared.tracing import SpanKind, begin_hop, is_tracing

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_ID_IN_PATH = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=/)\d+(?=/|$)")
_BEARER = re.compile(r"[Bb]earer +([\x21-\x7e]+) *")

Endpoint = Callable[[Request], Awaitable[Response]]


def setup_web(
    app: FastAPI,
    settings: HttpSettings,
    checks: Mapping[str, Check],
    *,
    body_limit: int,
    keys: KeyLookup | None = None,
    body_note: str = "",
    body_limits: Mapping[str, int] = MappingProxyType({}),
    hot_posts: Mapping[str, Endpoint] = MappingProxyType({}),
) -> None:
    """Give the app its middlewares, problem documents, /healthz, /readyz and /metrics.

    `checks`: what /readyz asks, each None or one sentence. `body_limit`: bytes of a request's body, `body_limits` of
    those to certain paths; more is 413, with the limit and `body_note` in the answer. `hot_posts`: see HotPosts.
    """
    setup_problems(app)
    if keys:
        _ask_for_key_first(app, keys)
    describe_common(app)
    app.state.quotas = Quotas(settings)
    build_stack = app.build_middleware_stack

    def build() -> ASGIApp:
        inner = build_stack()
        if hot_posts:
            inner = HotPosts(inner, endpoints=hot_posts, handlers=app.exception_handlers)
        inner = LoadShedding(
            inner,
            name=app.title,
            requests=settings.http_requests_in_flight,
            size=settings.http_bytes_in_flight,
        )
        allowed = AllowedNetworks(
            BodyLimit(inner, limit=body_limit, note=body_note, by_path=body_limits),
            allowed=settings.allowed_networks,
            metrics_allowed=settings.metrics_allowed_networks,
            trusted_proxies=settings.trusted_proxies,
        )
        outer = _allow_origins(allowed, settings.allowed_origins)
        return RequestId(TraceRequests(outer) if is_tracing() else outer)

    app.build_middleware_stack = build  # type: ignore[method-assign]
    _add_health(app, checks)
    app.router.routes.extend(list_routes())


def _allow_origins(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """Let pages of these origins call from a browser. Keys travel in a header, never in a cookie."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-ID"),
        expose_headers=("Location", "Retry-After", "X-Request-ID"),
    )


def _ask_for_key_first(app: FastAPI, keys: KeyLookup) -> None:
    """Whoever has no key does not hear what is wrong with his fields, which FastAPI looks at before any route."""
    point_out = app.exception_handlers[RequestValidationError]

    async def on_validation(request: Request, exc: Exception) -> Response:
        try:
            await authenticate(request, keys, None)
        except Problem as problem:
            return problem.to_response(request.state.request_id)
        answer: Response = await point_out(request, exc)  # type: ignore[misc]
        return answer

    app.add_exception_handler(RequestValidationError, on_validation)


def read_bearer(request: HTTPConnection) -> str | None:
    """The key of `Authorization: Bearer …`, None where there is none."""
    match = _BEARER.fullmatch(request.headers.get("authorization", ""))
    return match[1] if match else None


async def authenticate(
    request: HTTPConnection, keys: KeyLookup, scope: ApiScope | None, *, token: str | None = None
) -> ApiKey:
    """The caller's key, from `token` or else the Authorization header. Raises Problem 401, 403, 429 or 503.

    From here on the answer says what the key has left. Without a `scope`: any key will do.
    """
    secret = token or read_bearer(request)
    if not secret:
        raise Problem(401, "not-authenticated", "Give an API key: Authorization: Bearer mk_…")
    return await admit(request, keys.find(secret), scope)


async def admit(request: HTTPConnection, found: Awaitable[ApiKey | None], scope: ApiScope | None) -> ApiKey:
    """The key that a look-up has found, if it may do that. Raises Problem 401, 403 or 503."""
    try:
        key = await found
    except AccessUnavailable as exc:
        raise Problem(503, "unavailable", "The API key cannot be checked at the moment; try again.") from exc
    if key is None:
        raise Problem(401, "not-authenticated", "The API key is not valid, was revoked, or has expired.")
    if key.networks and not key.may_call_from(request.state.caller):
        detail = "This API key is limited to certain networks, and the request comes from another."
        raise Problem(403, "network-not-allowed", detail)
    quota: Quota = request.app.state.quotas.find(key)
    request.scope["state"]["quota"] = quota
    _refuse_beyond(quota.take(REQUESTS))
    if scope and scope not in key.scopes:
        raise Problem(403, "scope-missing", f"The API key lacks the scope {scope}.", scope=str(scope))
    return key


def take_mails(request: Request, count: int = 1) -> None:
    """Count mails that are about to be accepted: all of them, or Problem 429 and none. `authenticate` comes first.

    A mail counts once, however many recipients it has. More than the key may have at once are taken when nothing has
    been taken for long enough, and waited for afterwards.
    """
    if count:
        _refuse_beyond(request.scope["state"]["quota"].take(MAILS, count))


def _refuse_beyond(exhausted: Exhausted | None) -> None:
    if exhausted is None:
        return
    policy, rate, wait_s = exhausted.policy, exhausted.rate, exhausted.retry_after_s
    RATE_LIMITED.labels(limit=policy).inc()
    detail = f"This API key may ask for {rate:g} {policy} a second; try again in {wait_s} s."
    members: dict[str, Any] = {"limit": policy, "rate": rate, "retry_after": wait_s, "violated-policies": [policy]}
    raise Problem(429, "rate-limited", detail, headers={"Retry-After": str(wait_s)}, **members)


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
    """403 for callers outside the allowed networks; `/healthz` is open, `/metrics` has a list of its own.

    The caller is the peer, unless the peer is a trusted proxy: then the right-most address in `X-Forwarded-For`
    that is no trusted proxy. Whatever stands further left was written by the caller himself. `request.state.caller` is
    the address, for keys that are limited to networks.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed: tuple[Network, ...],
        metrics_allowed: tuple[Network, ...],
        trusted_proxies: tuple[Network, ...],
    ) -> None:
        self._app = app
        self._allowed = allowed
        self._metrics_allowed = metrics_allowed
        self._trusted = trusted_proxies
        self._judged = lru_cache(maxsize=4096)(self._judge)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan" or scope["path"] == "/healthz":
            return await self._app(scope, receive, send)
        client = scope.get("client")
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        peer = client[0] if client else ""
        may_call, caller = self._judged(peer, forwarded.decode("latin-1"), scope["path"] == "/metrics")
        if may_call:
            scope.setdefault("state", {})["caller"] = caller
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        problem = Problem(403, "network-not-allowed", "Requests from this network are not allowed.")
        await problem.to_response(scope["state"].get("request_id"))(scope, receive, send)

    def _judge(self, peer: str, forwarded: str, for_metrics: bool) -> tuple[bool, IPv4Address | IPv6Address | None]:
        caller = find_caller(peer, forwarded, self._trusted)
        allowed = self._metrics_allowed if for_metrics else self._allowed
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


def _add_health(app: FastAPI, checks: Mapping[str, Check]) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def say_alive() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", include_in_schema=False)
    async def say_ready() -> JSONResponse:
        ready, report = await run_checks(checks)
        return JSONResponse(report, status_code=200 if ready else 503)

    @app.get("/metrics", include_in_schema=False)
    async def show_metrics() -> Response:
        return Response(render_metrics(), media_type=CONTENT_TYPE)
