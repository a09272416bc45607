"""What every API has: who may call, how much may be sent, health and metrics, problems.

`setup_web` is called once per application, before the first request.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from shared.access import KeyLookup
from shared.apidocs import describe_common
from shared.authenticating import authenticate
from shared.health import Check, run_checks
from shared.metrics import CONTENT_TYPE, render_metrics
from shared.middlewares import AllowedNetworks, BodyLimit, Endpoint, HotPosts, RequestId, TraceRequests
from shared.problems import Problem, setup_problems
from shared.problems_page import list_routes
from shared.quotas import Quotas
from shared.settings import HttpSettings, Network
from shared.shedding import LoadShedding
from shared.tracing import is_tracing


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
    streamed: Collection[str] = (),
    public: Mapping[str, tuple[Network, ...]] = MappingProxyType({}),
) -> None:
    """Give the app its middlewares, problem documents, /healthz, /readyz and /metrics.

    `checks`: what /readyz asks, each None or one sentence. `body_limit`: bytes of a request's body, `body_limits` of
    those to certain paths; more is 413, with the limit and `body_note` in the answer. `hot_posts`: see HotPosts.
    `streamed`: paths of bodies that are worked on as they come and are nowhere held whole. `public`: networks of their
    own for paths that begin so.
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
            streamed=frozenset(streamed),
        )
        allowed = AllowedNetworks(
            BodyLimit(inner, limit=body_limit, note=body_note, by_path=body_limits),
            allowed=settings.allowed_networks,
            others={"/metrics": settings.metrics_allowed_networks, **public},
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
        expose_headers=(
            *("Location", "Retry-After", "X-Request-ID"),
            *("RateLimit", "RateLimit-Policy", "Idempotent-Replayed"),
        ),
    )


def _ask_for_key_first(app: FastAPI, keys: KeyLookup) -> None:
    """Whoever has no key does not hear what is wrong with his fields, which FastAPI looks at before any route."""
    point_out = app.exception_handlers[RequestValidationError]

    async def on_validation(request: Request, exc: Exception) -> Response:
        if "quota" not in request.scope["state"]:  # not asked yet
            try:
                await authenticate(request, keys, None)
            except Problem as problem:
                return problem.to_response(request.state.request_id)
        answer: Response = await point_out(request, exc)  # type: ignore[misc]
        return answer

    app.add_exception_handler(RequestValidationError, on_validation)


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
