"""Errors over HTTP: RFC 9457 problem documents, one shape everywhere.

`{"type", "title", "status", "detail", "request_id", "errors": [{"detail", "pointer"}], …}`. The types stand in
shared/problem_types.py; each leads to a page (shared/problems_page.py).
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from shared.database import DatabaseUnavailable
from shared.metrics import REQUESTS_REFUSED
from shared.problem_types import PROBLEM_TYPES, link_type

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
# What the framework refuses by itself, by status.
_SLUGS = {400: "malformed-request", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}
UNKNOWN_FIELD = "unknown field"
_OBJECT = "must be a JSON object"
_WORDS = {"Extra inputs are not permitted": UNKNOWN_FIELD, "Field required": "is needed"}


class Problem(Exception):
    """An answer that is an error. `slug` names its type (one of PROBLEM_TYPES), `extra` adds members of its own."""

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        *,
        errors: Sequence[dict[str, str]] = (),
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail
        self.errors = list(errors)
        self.headers = headers or {}
        self.extra = extra

    def to_document(self, request_id: str | None = None) -> dict[str, Any]:
        """The problem document's members."""
        document: dict[str, Any] = {
            "type": link_type(self.slug),
            "title": PROBLEM_TYPES[self.slug].title,
            "status": self.status,
            "detail": self.detail,
        }
        if request_id:
            document["request_id"] = request_id
        if self.errors:
            document["errors"] = self.errors
        return document | self.extra

    def to_response(self, request_id: str | None = None) -> JSONResponse:
        """The HTTP answer."""
        REQUESTS_REFUSED.labels(status=str(self.status)).inc()
        headers = dict(self.headers)
        if self.status == 401:
            headers.setdefault("WWW-Authenticate", "Bearer")
        if self.status in (429, 503):
            headers.setdefault("Retry-After", "5")
        return JSONResponse(
            self.to_document(request_id), status_code=self.status, headers=headers, media_type=CONTENT_TYPE
        )


def reword(detail: str) -> str:
    """An error of pydantic's in the words of all others."""
    return _OBJECT if detail.startswith("Input should be a valid dictionary") else _WORDS.get(detail, detail)


def invalid_content(errors: Sequence[dict[str, str]]) -> Problem:
    """422 with a pointer to each field."""
    return Problem(422, "invalid-content", "Some fields are not acceptable; see errors.", errors=errors)


def setup_problems(app: FastAPI) -> None:
    """Let every error of the app leave as a problem document."""

    async def on_problem(request: Request, exc: Exception) -> JSONResponse:
        assert isinstance(exc, Problem)
        return exc.to_response(_request_id(request))

    async def on_http(request: Request, exc: Exception) -> JSONResponse:
        assert isinstance(exc, HTTPException)
        slug = _SLUGS.get(exc.status_code, "malformed-request" if exc.status_code < 500 else "internal-error")
        headers, detail = dict(exc.headers or {}), str(exc.detail)
        if exc.status_code == 404 and detail == HTTPStatus.NOT_FOUND.phrase:  # it is the framework that says so
            detail = "There is nothing at this address; /docs lists what there is."
        if exc.status_code == 405:
            headers["Allow"] = _list_methods(app, request)
            detail = f"{request.method} is not for this address; it takes {headers['Allow']}."
        return Problem(exc.status_code, slug, detail, headers=headers).to_response(_request_id(request))

    async def on_validation(request: Request, exc: Exception) -> JSONResponse:
        assert isinstance(exc, RequestValidationError)
        if _find_namesakes(app, request) and all(error["loc"][0] == "path" for error in exc.errors()):
            return await on_http(request, HTTPException(405))
        errors = [
            {"detail": reword(error["msg"].removeprefix("Value error, ")), "pointer": _pointer(error["loc"])}
            for error in exc.errors()
        ]
        return invalid_content(errors).to_response(_request_id(request))

    async def on_outage(request: Request, exc: Exception) -> JSONResponse:
        log.warning("request refused, postgresql is away", error=str(exc))
        return Problem(503, "unavailable", "The database does not answer; try again.").to_response(_request_id(request))

    async def on_bug(request: Request, exc: Exception) -> JSONResponse:
        log.error("request failed", exc_info=exc)
        return Problem(500, "internal-error", "This is our fault; it has been logged.").to_response(
            _request_id(request)
        )

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(DatabaseUnavailable, on_outage)
    app.add_exception_handler(Exception, on_bug)


def _find_namesakes(app: FastAPI, request: Request) -> list[BaseRoute]:
    """The routes of exactly this path: `/v1/emails/retry` is no mail's, though `/v1/emails/{email_id}` matches it."""
    return [route for route in app.router.routes if getattr(route, "path", "") == request.scope["path"]]


def _list_methods(app: FastAPI, request: Request) -> str:
    """For `Allow`; the router names the methods of the first route of a path only."""
    routes = _find_namesakes(app, request) or [
        route for route in app.router.routes if route.matches(request.scope)[0] is not Match.NONE
    ]
    return ", ".join(sorted({method for route in routes for method in getattr(route, "methods", None) or ()}))


def _request_id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)


def _pointer(location: Sequence[Any]) -> str:
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in location if part != "body"]
    return "".join(f"/{part}" for part in parts)
