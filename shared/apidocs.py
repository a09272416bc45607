"""What an API's OpenAPI document needs beyond FastAPI's own: request bodies we read ourselves, and problems."""

import json
import re
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

_REF = "#/components/schemas/{model}"
_NAMES = re.compile(r'"#/components/schemas/(\w+)"')
_MEANINGS = {
    400: "Malformed: no JSON, or no form",
    401: "The API key is missing, wrong or revoked",
    403: "Not allowed: network, scope or sender",
    404: "There is no such thing in this account",
    408: "The request did not arrive in time",
    409: "The mail has come to its end already; `email_status` says which",
    413: "Too large; `limit` says how much is allowed",
    415: "Not of a media type that is read here",
    422: "Some fields are not acceptable; `errors` points at each",
    429: "The API key has asked for more than its rate; `limit` says of what, `Retry-After` when to try again",
    503: "Kafka or PostgreSQL is away, or too much is at work; `Retry-After` says when to try again",
}
_RETRY_AFTER = {"description": "Seconds to wait before the next try", "schema": {"type": "integer", "minimum": 0}}
_LEFT = {
    "RateLimit-Policy": {
        "description": "What the API key may have: `q` at once, as much as comes in `w` seconds",
        "schema": {"type": "string"},
        "example": '"requests";q=100000;w=10, "mails";q=500000;w=10',
    },
    "RateLimit": {
        "description": "What the API key has left: `r` now, more in `t` seconds",
        "schema": {"type": "string"},
        "example": '"requests";r=99999;t=1, "mails";r=499999;t=1',
    },
}


class FieldError(BaseModel):
    """What is wrong with one field."""

    detail: str = Field(examples=["not an email address: there is no @"])
    pointer: str = Field(description="JSON pointer (RFC 6901) into the request body", examples=["/to"])


class ProblemDocument(BaseModel):
    """RFC 9457 problem document, the shape of every error."""

    type: str = Field(examples=["urn:milena:problem:invalid-content"])
    title: str = Field(examples=["Invalid content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["Some fields are not acceptable; see errors."])
    request_id: str | None = None
    errors: list[FieldError] | None = None


def describe_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these statuses; add_schemas(app, ProblemDocument) makes the reference good."""
    content = {"application/problem+json": {"schema": {"$ref": _REF.format(model="ProblemDocument")}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


def describe_edge(app: FastAPI) -> None:
    """Let every operation tell what `setup_web` answers around it, beside what it declares itself."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        for item in document.get("paths", {}).values():
            for operation in item.values():
                _add_edge(operation)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_edge(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    needs_key, has_body = "401" in responses, "requestBody" in operation
    statuses = (*((408, 413) if has_body else ()), *((429,) if needs_key else ()), 503)
    for status, description in describe_problems(*statuses).items():
        responses.setdefault(str(status), description)
    for status, response in responses.items():
        if status in ("429", "503"):
            response.setdefault("headers", {}).setdefault("Retry-After", _RETRY_AFTER)
        if needs_key and status.startswith(("2", "429")):
            response["headers"] = {**response.get("headers", {}), **_LEFT}


def describe_body(contents: dict[str, tuple[type[BaseModel], dict[str, Any]]]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body itself: `{media type: (model, examples)}`."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                media: {"schema": {"$ref": _REF.format(model=model.__name__)}, "examples": examples}
                for media, (model, examples) in contents.items()
            },
        }
    }


def add_schemas(app: FastAPI, *models: type[BaseModel]) -> None:
    """Put models, and what they refer to, into the document's components, for what refers to them by name."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        components = document.setdefault("components", {}).setdefault("schemas", {})
        if not all(model.__name__ in components for model in models):
            _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
            _copy_used(schemas["$defs"], [model.__name__ for model in models], components)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _copy_used(definitions: dict[str, Any], names: Iterable[str], components: dict[str, Any]) -> None:
    for name in names:
        if name in definitions and name not in components:
            components[name] = definitions[name]
            _copy_used(definitions, _NAMES.findall(json.dumps(definitions[name])), components)
