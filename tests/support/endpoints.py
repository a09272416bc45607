"""Every operation of the four APIs, as their OpenAPI documents tell them, and requests to them within this process."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from uuid import UUID

import httpx
from fastapi import FastAPI

from services.callback.api import create_api as create_callback
from services.callback.settings import ApiSettings as CallbackSettings
from services.gateway.api import create_api as create_gateway
from services.gateway.settings import ApiSettings as GatewaySettings
from services.scheduler.api import create_api as create_scheduler
from services.scheduler.settings import ApiSettings as SchedulerSettings
from services.sender.api import create_api as create_sender
from services.sender.settings import ApiSettings as SenderSettings
from shared.access import AccessStore, ApiKey, ApiScope, digest_key, mint_key

INSIDE, OUTSIDE = "127.0.0.1", "203.0.113.9"
_METHODS = ("get", "post", "put", "patch", "delete")
_NOWHERE: dict[str, Any] = {
    "database_url": "postgresql://nobody@127.0.0.1:1/none",
    "kafka_bootstrap_servers": "127.0.0.1:1",
}
_SAMPLES = {
    "uuid": str(UUID(int=7)),
    "date-time": "2030-01-31T09:00:00Z",
    "date": "2030-01-31",
    "uri": "https://example.org/",
    "email": "ann@example.org",
}


@dataclass(frozen=True)
class Operation:
    """One method on one path. `request` is what httpx needs for a call that is well formed."""

    service: str
    app: FastAPI = field(repr=False)
    method: str
    path: str
    summary: str
    is_public: bool
    request: Mapping[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    async def call(self, secret: str | None = None, peer: str = INSIDE) -> httpx.Response:
        """Call it with this key, from this address."""
        transport = httpx.ASGITransport(app=self.app, client=(peer, 1), raise_app_exceptions=False)
        headers = dict(self.request.get("headers", {})) | ({"Authorization": f"Bearer {secret}"} if secret else {})
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(self.method, **{**self.request, "headers": headers})


def read_problem(answer: httpx.Response) -> Any:
    """The problem document of an answer, also where it lies in an envelope."""
    document = answer.json()
    return document["error"] if "success" in document else document


class Keyring:
    """Keys of any scopes, known to every API that is built while it is in force."""

    def __init__(self) -> None:
        self._keys: dict[bytes, ApiKey] = {}

    def mint(self, *scopes: str) -> str:
        """The secret of a key with these scopes."""
        secret = mint_key()
        self._keys[digest_key(secret)] = ApiKey(
            id=secret[-8:],
            account="default",
            name="test",
            hint="mk_x…",
            scopes=frozenset(scopes),
            senders=("*",),
            created_at=datetime.now(UTC),
        )
        return secret

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """In place of the keys in PostgreSQL, which is nowhere."""

        async def find_key(_: AccessStore, digest: bytes) -> ApiKey | None:
            return self._keys.get(digest)

        with patch.object(AccessStore, "find_key", find_key):
            yield


def build_apis() -> dict[str, FastAPI]:
    """The four applications by service, with Kafka and PostgreSQL away."""
    return {
        "gateway": create_gateway(GatewaySettings(**_NOWHERE)),
        "sender": create_sender(SenderSettings(**_NOWHERE)),
        "scheduler": create_scheduler(SchedulerSettings(**_NOWHERE)),
        "callback": create_callback(CallbackSettings(**_NOWHERE)),
    }


def list_operations(apis: Mapping[str, FastAPI]) -> list[Operation]:
    """Every operation of every document; nothing has to be written down for a new one."""
    return [each for service, app in apis.items() for each in _read_document(service, app)]


async def knock(app: FastAPI, path: str, peer: str = INSIDE) -> str:
    """Ask for a WebSocket without a key; gives the type of the first message that answers."""
    answers: list[str] = []
    scope: dict[str, Any] = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
    }
    scope |= {"scheme": "ws", "headers": [], "client": (peer, 1), "server": ("test", 80), "subprotocols": []}
    scope |= {"extensions": {"websocket.http.response": {}}}

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"} if not answers else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        answers.append(message["type"])

    await app(scope, receive, send)
    return answers[0]


def list_scopes() -> list[str]:
    """Every scope there is."""
    return [scope.value for scope in ApiScope]


def _read_document(service: str, app: FastAPI) -> Iterator[Operation]:
    document = app.openapi()
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                told = item[method]
                is_public = told.get("security") == []
                request = _build_request(document, path, told, item.get("parameters", []))
                yield Operation(service, app, method.upper(), path, told.get("summary", ""), is_public, request)


def _build_request(document: Any, path: str, told: Any, common: list[Any]) -> dict[str, Any]:
    query: dict[str, Any] = {}
    for parameter in [_follow(document, each) for each in (*common, *told.get("parameters", []))]:
        value = _sample(document, parameter["schema"], parameter["name"])
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(value))
        elif parameter["in"] == "query" and parameter.get("required"):
            query[parameter["name"]] = value
    request: dict[str, Any] = {"url": path, "params": query}
    contents = told.get("requestBody", {}).get("content", {})
    for media, content in sorted(contents.items(), key=lambda each: each[0] != "application/json"):
        value = _read_example(content) or _sample(document, content.get("schema", {}), "")
        if media == "application/json":
            if isinstance(value, dict):
                value = {name: each for name, each in value.items() if name != "token"}  # the key is in the header
            return {**request, "json": value}
        request |= {"content": str(value), "headers": {"content-type": media}}
    return request


def _read_example(content: Any) -> Any:
    if "example" in content:
        return content["example"]
    return next((each["value"] for each in content.get("examples", {}).values()), None)


def _follow(document: Any, schema: Any) -> Any:
    while "$ref" in schema:
        target = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema


def _sample(document: Any, schema: Any, name: str) -> Any:
    """A value that the schema allows, as far as examples and the everyday words of JSON Schema tell it."""
    schema = _follow(document, schema)
    if schema.get("examples"):
        return schema["examples"][0]
    for word in ("const", "default", "example"):
        if schema.get(word) is not None:
            return schema[word]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            return _sample(document, schema[union][0], name)
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {each: _sample(document, properties[each], each) for each in schema.get("required", ())}
        case "array":
            return [_sample(document, schema.get("items", {}), name)] * schema.get("minItems", 1)
        case "integer" | "number":
            return max(schema.get("minimum", 1), 1)
        case "boolean":
            return False
        case _:
            return _SAMPLES.get(schema.get("format", "email" if "address" in name else ""), "abc")
