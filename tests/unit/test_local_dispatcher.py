"""Three APIs behind one origin."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse
from pydantic import create_model
from starlette.types import Message

from deploy.local.dispatcher import Api, Dispatcher
from deploy.local.front import create_front
from deploy.local.settings import FrontSettings

SETTINGS = FrontSettings(mail_url="http://127.0.0.1:8025/")


def build_api(name: str, prefixes: tuple[str, ...], ready: bool = True, log: list[str] | None = None) -> Api:
    """A little API that answers everything with its own name."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        if log is not None:
            log.append(f"{name} up")
        yield {"owner": name}
        if log is not None:
            log.append(f"{name} down")

    app = FastAPI(title=name, lifespan=lifespan)

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> PlainTextResponse:
        return PlainTextResponse(f'{{"status": "{name}"}}', status_code=200 if ready else 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> PlainTextResponse:
        refused = request.headers.get("x-refuse") == "yes"
        return PlainTextResponse("milena_up 1", status_code=403 if refused else 200)

    @app.websocket(f"{prefixes[0]}/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(name)
        await socket.close()

    item = create_model("Item", **{name: (int, ...)})  # type: ignore[call-overload]

    @app.get(f"{prefixes[0]}/items/{{number}}", response_model=item)
    async def read_item(number: int) -> dict[str, int]:
        return {name: number}

    @app.get("/{path:path}", include_in_schema=False)
    async def rest(path: str, request: Request) -> dict[str, str]:
        return {"api": name, "path": request.url.path, "owner": request.state.owner}

    return Api(name, prefixes, app)


@asynccontextmanager
async def running(*apis: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a dispatcher that has been started, as a server starts it, and is stopped at the end."""
    dispatcher = Dispatcher(apis, create_front(apis, SETTINGS))
    told: asyncio.Queue[Message] = asyncio.Queue()
    said: asyncio.Queue[Message] = asyncio.Queue()
    life = asyncio.create_task(dispatcher({"type": "lifespan"}, told.get, said.put))
    told.put_nowait({"type": "lifespan.startup"})
    if (message := await said.get())["type"] == "lifespan.startup.failed":
        assert message["message"] == "RuntimeError: no broker"
        await life
    async with httpx.AsyncClient(transport=httpx.ASGITransport(dispatcher), base_url="http://test") as client:
        yield client
    told.put_nowait({"type": "lifespan.shutdown"})
    assert (await said.get())["type"] == "lifespan.shutdown.complete"
    await life


async def open_websocket(path: str, *apis: Api) -> list[Message]:
    """What a dispatcher answers to a websocket."""
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        said.append(message)

    scope: dict[str, Any] = {
        "type": "websocket",
        "path": path,
        "headers": [],
        "client": ("127.0.0.1", 1),
        "query_string": b"",
        "subprotocols": [],
    }
    await Dispatcher(apis, create_front(apis, SETTINGS))(scope, receive, send)
    return said


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/email", "gateway"),
        ("/email/", "gateway"),
        ("/v1/emails/1", "gateway"),
        ("/v1/emails/webhooks", "callback"),
        ("/api/tasks.list", "scheduler"),
    ],
)
async def test_longest_declared_prefix_answers_with_its_own_lifespan_state(path: str, api: str) -> None:
    apis = (
        build_api("gateway", ("/email", "/v1/emails")),
        build_api("scheduler", ("/api/tasks.",)),
        build_api("callback", ("/v1/emails/webhooks",)),
    )
    async with running(*apis) as client:
        assert (await client.get(path)).json() == {"api": api, "path": path, "owner": api}


@pytest.mark.parametrize("path", ["/emails", "/v1", "/api/tasks", "/nowhere"])
async def test_path_of_nobody_is_a_problem(path: str) -> None:
    async with running(build_api("gateway", ("/email",)), build_api("scheduler", ("/api/tasks.",))) as client:
        answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 404


async def test_every_lifespan_is_entered_in_order_and_left_in_reverse() -> None:
    log: list[str] = []
    async with running(build_api("a", ("/a",), log=log), build_api("b", ("/b",), log=log)):
        assert log == ["a up", "b up"]
    assert log == ["a up", "b up", "b down", "a down"]


async def test_start_fails_when_one_api_cannot_start_and_the_others_are_left() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def broken(app: FastAPI) -> AsyncIterator[None]:
        raise RuntimeError("no broker")
        yield

    apis = (build_api("a", ("/a",), log=log), Api("b", ("/b",), FastAPI(lifespan=broken)))
    with pytest.raises(RuntimeError, match="no broker"):
        async with running(*apis):
            pass
    assert log == ["a up", "a down"]


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
async def test_ready_only_when_all_are(ready: bool, status: int) -> None:
    async with running(build_api("a", ("/a",)), build_api("b", ("/b",), ready=ready)) as client:
        answer = await client.get("/readyz")
        assert (await client.get("/healthz")).status_code == 200
    assert answer.status_code == status
    assert answer.json()["services"] == {"a": {"status": "a"}, "b": {"status": "b"}}


async def test_metrics_are_guarded_by_the_api_that_gives_them() -> None:
    async with running(build_api("a", ("/a",))) as client:
        assert (await client.get("/metrics")).text == "milena_up 1"
        assert (await client.get("/metrics", headers={"x-refuse": "yes"})).status_code == 403


async def test_documents_are_one_and_components_of_one_name_stay_apart() -> None:
    async with running(build_api("gateway", ("/email",)), build_api("callback", ("/hooks",))) as client:
        document = (await client.get("/openapi.json")).json()
        for path in ("/docs", "/api/v1/docs", "/api/v1/docs/"):
            assert "/openapi.json" in (await client.get(path)).text
    assert set(document["paths"]) == {"/email/items/{number}", "/hooks/items/{number}"}
    schemas = document["components"]["schemas"]
    for path, owner in (("/email/items/{number}", "gateway"), ("/hooks/items/{number}", "callback")):
        content = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
        name = content["schema"]["$ref"].rsplit("/", 1)[-1]
        assert list(schemas[name]["properties"]) == [owner]
    assert "HTTPValidationError" in schemas
    assert "CallbackHTTPValidationError" not in schemas


async def test_docs_ask_for_the_key_and_send_it() -> None:
    async with running(build_api("gateway", ("/email",))) as client:
        document = (await client.get("/openapi.json")).json()
    [needed] = document["security"]
    [scheme] = needed
    assert document["components"]["securitySchemes"][scheme]["scheme"] == "bearer"


async def test_websockets_reach_their_api_and_nobody_else() -> None:
    apis = (build_api("a", ("/a",)), build_api("b", ("/b",)))
    said = await open_websocket("/b/live", *apis)
    assert [message.get("text") for message in said if message["type"] == "websocket.send"] == ["b"]
    assert [message["type"] for message in await open_websocket("/c/live", *apis)] == ["websocket.close"]


async def test_home_names_the_addresses() -> None:
    async with running(build_api("a", ("/a",))) as client:
        page = unescape((await client.get("/")).text)
    assert "/docs" in page
    assert "http://127.0.0.1:8025/" in page


async def test_networks_that_may_not_call_the_apis_see_no_page_either() -> None:
    apis = (build_api("a", ("/a",)),)
    dispatcher = Dispatcher(apis, create_front(apis, SETTINGS))
    transport = httpx.ASGITransport(dispatcher, client=("192.0.2.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for path in ("/", "/docs", "/openapi.json", "/readyz", "/metrics", "/nowhere"):
            assert (await client.get(path)).status_code == 403, path
        assert (await client.get("/healthz")).status_code == 200
