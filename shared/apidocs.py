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
    400: "Malformed: no JSON, no form, or an Idempotency-Key that is none",
    401: "The API key is missing, wrong or revoked",
    403: "Not allowed: network, scope or sender",
    404: "There is no such thing in this account",
    408: "The request did not arrive in time",
    409: "The mail has come to its end already; `email_status` says which",
    410: "It was kept for long enough, and is gone",
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


_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A value of your own for this request, best a UUID. Asked again with it, the same request is "
    "answered as before and nothing is sent twice. It is kept for 24 hours. The quotes of RFC 8941 may be left out.",
    "schema": {
        "type": "string",
        "maxLength": 512,
        "pattern": r'^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~][ -~]{0,254})$',
    },
    "example": '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
}
IDEMPOTENCY_KEY: dict[str, Any] = {"parameters": [_KEY]}
"""`openapi_extra` of a route that heeds the header."""

_REPLAYED = {
    "description": "`true`: this is the answer to an earlier request with the same Idempotency-Key",
    "schema": {"type": "string", "enum": ["true"]},
}


_STREAMED = {
    "type": "object",
    "description": "each event of the stream (WHATWG HTML §9.2)",
    "properties": {
        "id": {"type": "string", "description": "for `Last-Event-ID`"},
        "event": {"type": "string"},
        "data": {"type": "string", "description": "JSON"},
    },
}


class FieldError(BaseModel):
    """What is wrong with one field."""

    detail: str = Field(examples=["not an email address: there is no @"])
    pointer: str = Field(description="JSON pointer (RFC 6901) into the request body", examples=["/to"])


class ProblemDocument(BaseModel):
    """RFC 9457 problem document, the shape of every error."""

    type: str = Field(description="leads to a page about this type of problem", examples=["/problems/invalid-content"])
    title: str = Field(examples=["Invalid content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["Some fields are not acceptable; see errors."])
    request_id: str | None = None
    errors: list[FieldError] | None = None


def describe_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these statuses; add_schemas(app, ProblemDocument) makes the reference good."""
    content = {"application/problem+json": {"schema": {"$ref": _REF.format(model="ProblemDocument")}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


def describe_once(*statuses: int, answered: int = 202) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route with an Idempotency-Key, answered with `answered`; 422 is among `statuses`."""
    described = describe_problems(*statuses, 409)
    described[422]["description"] += "; or the Idempotency-Key was used for another request"
    if 409 not in statuses:
        described[409]["description"] = "A request with this Idempotency-Key is being carried out; ask again"
    return described | {answered: {"headers": {"Idempotent-Replayed": _REPLAYED}}}


def describe_body(
    contents: dict[str, tuple[type[BaseModel], dict[str, Any]]], *, required: bool = True
) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body itself: `{media type: (model, examples)}`."""
    return {
        "requestBody": {
            "required": required,
            "content": {
                media: {"schema": {"$ref": _REF.format(model=model.__name__)}, "examples": examples}
                for media, (model, examples) in contents.items()
            },
        }
    }


def describe_common(app: FastAPI) -> None:
    """Say for every operation what is answered around it, beside what it declares itself.

    A body that cannot be read or does not come, an id that is none, a rate that is used up, a process that is full.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        for path, operations in document.get("paths", {}).items():
            for operation in operations.values():
                _add_common(operation, has_parameter="{" in path)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_common(operation: dict[str, Any], *, has_parameter: bool) -> None:
    needs_key, has_body = "401" in operation["responses"], "requestBody" in operation
    asked = {(400, 408, 413): has_body, (404,): has_parameter, (429,): needs_key, (503,): True}
    statuses = [status for common, applies in asked.items() if applies for status in common]
    common = {str(status): answer for status, answer in describe_problems(*statuses).items()}
    responses = operation["responses"] = dict(sorted((common | operation["responses"]).items()))
    for status, response in responses.items():
        if status in ("429", "503"):
            response.setdefault("headers", {}).setdefault("Retry-After", _RETRY_AFTER)
        if needs_key and status.startswith(("2", "429")):
            response["headers"] = {**response.get("headers", {}), **_LEFT}
        if "text/event-stream" in response.get("content", {}):  # FastAPI calls the whole stream one text
            response["content"]["text/event-stream"]["schema"] = _STREAMED


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
