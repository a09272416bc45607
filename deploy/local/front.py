"""What the local origin itself answers: the page of addresses, the API documentation, health."""

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import minijinja
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from deploy.local.dispatcher import Api, ask
from deploy.local.openapi import TITLE, describe_apis
from deploy.local.settings import FrontSettings
from shared.metrics import CONTENT_TYPE
from shared.middlewares import AllowedNetworks, RequestId
from shared.problems import Problem
from shared.problems_page import list_routes

_TEMPLATES = Path(__file__).parent / "templates"


def create_front(apis: Sequence[Api], settings: FrontSettings) -> Starlette:
    """Build the application for every path that no API declares, open to the same networks as the APIs."""
    routes: list[tuple[str, Callable[[Request], Awaitable[Response]]]] = [
        ("/", _create_home(settings.mail_url)),
        ("/docs", _show_docs),
        ("/api/v1/docs", _show_docs),
        ("/api/v1/docs/", _show_docs),
        ("/openapi.json", _create_openapi(apis)),
        ("/healthz", _say_alive),
        ("/readyz", _create_readiness(apis)),
        ("/metrics", _create_metrics(apis)),
    ]
    return Starlette(
        routes=[*(Route(path, endpoint, methods=["GET"]) for path, endpoint in routes), *list_routes()],
        middleware=[
            Middleware(RequestId),
            Middleware(
                AllowedNetworks,
                allowed=settings.allowed_networks,
                others={"/metrics": settings.metrics_allowed_networks},
                trusted_proxies=settings.trusted_proxies,
            ),
        ],
        exception_handlers={HTTPException: _answer_problem},
    )


def _create_home(mail_url: str | None) -> Callable[[Request], Awaitable[Response]]:
    environment = minijinja.Environment(loader=lambda name: (_TEMPLATES / name).read_text())

    async def show_home(_request: Request) -> Response:
        return HTMLResponse(environment.render_template("home.html", mail_url=mail_url))

    return show_home


async def _show_docs(_request: Request) -> Response:
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=f"{TITLE} API",
        swagger_favicon_url="data:,",
        swagger_ui_parameters={"persistAuthorization": True},
    )


def _create_openapi(apis: Sequence[Api]) -> Callable[[Request], Awaitable[Response]]:
    async def show_openapi(_request: Request) -> Response:
        return JSONResponse(describe_apis(apis))

    return show_openapi


async def _say_alive(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _create_readiness(apis: Sequence[Api]) -> Callable[[Request], Awaitable[Response]]:
    async def say_ready(request: Request) -> Response:
        """Ready when every API is; each API's own report is under its name."""
        services: dict[str, Any] = {}
        ready = True
        for api in apis:
            status, body = await ask(api, request.scope, "/readyz")
            ready = ready and status == 200
            services[api.name] = _read_json(body)
        report = {"status": "ready" if ready else "not ready", "services": services}
        return JSONResponse(report, status_code=200 if ready else 503)

    return say_ready


def _create_metrics(apis: Sequence[Api]) -> Callable[[Request], Awaitable[Response]]:
    async def show_metrics(request: Request) -> Response:
        """The metrics of the process: all APIs share one registry, so one answers, and guards it, for all."""
        status, body = await ask(apis[0], request.scope, "/metrics")
        return Response(
            body,
            status_code=status,
            headers={"Content-Type": CONTENT_TYPE if status == 200 else "text/plain"},
        )

    return show_metrics


async def _answer_problem(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    problem = Problem(exc.status_code, "method-not-allowed", str(exc.detail), headers=dict(exc.headers or {}))
    if exc.status_code == 404:
        problem = Problem(404, "not-found", "There is nothing at this address; /docs lists what there is.")
    return problem.to_response(request.state.request_id)


def _read_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
