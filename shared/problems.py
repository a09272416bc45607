"""Errors over HTTP: RFC 9457 problem documents, one shape everywhere.

`{"type", "title", "status", "detail", "request_id", "errors": [{"detail", "pointer"}], …}`
"""

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from shared.database import DatabaseUnavailable
from shared.metrics import REQUESTS_REFUSED

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
_TITLES = {
    400: "Malformed request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request not received in time",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid content",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
}


class Problem(Exception):
    """An answer that is an error. `slug` names its type, `extra` adds members of its own."""

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
            "type": f"urn:milena:problem:{self.slug}",
            "title": _TITLES.get(self.status, "Error"),
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
        slug = _TITLES.get(exc.status_code, "error").lower().replace(" ", "-")
        problem = Problem(exc.status_code, slug, str(exc.detail), headers=dict(exc.headers or {}))
        return problem.to_response(_request_id(request))

    async def on_validation(request: Request, exc: Exception) -> JSONResponse:
        assert isinstance(exc, RequestValidationError)
        errors = [
            {"detail": error["msg"].removeprefix("Value error, "), "pointer": _pointer(error["loc"])}
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


def _request_id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)


def _pointer(location: Sequence[Any]) -> str:
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in location if part != "body"]
    return "".join(f"/{part}" for part in parts)
