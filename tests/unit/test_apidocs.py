"""What stands in an API's description without its routes having said so."""

from typing import Any

from fastapi import FastAPI, Request

from shared.apidocs import ProblemDocument, add_schemas, describe_body, describe_problems
from shared.settings import HttpSettings
from shared.web import setup_web


def describe() -> dict[str, Any]:
    app = FastAPI()

    @app.post("/mail", responses=describe_problems(401), openapi_extra=describe_body({}))
    async def send(request: Request) -> None:
        """Send."""

    @app.get("/open", responses=describe_problems(503))
    async def look() -> None:
        """Look."""

    setup_web(app, HttpSettings(), {}, body_limit=100)
    add_schemas(app, ProblemDocument)
    app.openapi()
    paths: dict[str, Any] = app.openapi()["paths"]  # asked for again: what is there is kept
    return paths


def test_an_operation_tells_what_may_be_answered_around_it() -> None:
    responses = describe()["/mail"]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "408", "413", "429", "503"}
    assert set(responses["429"]["headers"]) == {"Retry-After", "RateLimit", "RateLimit-Policy"}
    assert set(responses["200"]["headers"]) == {"RateLimit", "RateLimit-Policy"}
    assert all("application/problem+json" in responses[status]["content"] for status in ("408", "413", "429", "503"))


def test_one_without_key_and_body_may_be_shed_only() -> None:
    responses = describe()["/open"]["get"]["responses"]
    assert set(responses) == {"200", "503"}
    assert set(responses["503"]["headers"]) == {"Retry-After"}
    assert "headers" not in responses["200"]
