"""Who may call an API, and how much may be sent to it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from shared.database import DatabaseUnavailable
from shared.networks import find_caller
from shared.problems import Problem
from shared.settings import HttpSettings, parse_networks
from shared.web import setup_web


def build(checks: dict[str, Any] | None = None, **fields: Any) -> FastAPI:
    app = FastAPI()
    settings = HttpSettings(**{name: parse_networks(value) for name, value in fields.items()})
    setup_web(app, settings, checks or {}, body_limit=100, body_note="Be brief.")

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, Any]:
        return {"size": len(await request.body()), "request_id": request.state.request_id}

    @app.get("/bug")
    async def fail() -> None:
        raise RuntimeError("secret detail")

    return app


async def test_pages_of_named_origins_may_call_and_no_others() -> None:
    app = FastAPI()
    setup_web(app, HttpSettings(allowed_origins=("https://app.example.com",)), {}, body_limit=100)
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "Authorization,Last-Event-ID"}
    async with call(app) as client:
        for origin, allowed in (("https://app.example.com", True), ("https://bad.example", False)):
            before = await client.options("/readyz", headers={"Origin": origin} | asked)
            answer = await client.get("/readyz", headers={"Origin": origin})
            assert before.status_code == (200 if allowed else 400)
            assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
    async with call(build()) as client:
        answer = await client.get("/readyz", headers={"Origin": "https://app.example.com"})
    assert "access-control-allow-origin" not in answer.headers


def call(app: FastAPI, peer: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=(peer, 1), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("172.32.0.1", False),
        ("192.168.7.7", True),
        ("::1", True),
        ("fd00::1", True),
        ("::ffff:10.0.0.1", True),
        ("::ffff:8.8.8.8", False),
        ("8.8.8.8", False),
        ("2001:db8::1", False),
        ("", False),
        ("not-an-address", False),
    ],
)
async def test_by_default_loopback_and_private_networks_may_call(peer: str, allowed: bool) -> None:
    async with call(build(), peer) as client:
        answer = await client.post("/echo")
        assert answer.status_code == (200 if allowed else 403)
        if not allowed:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "/problems/network-not-allowed"
            assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_health_is_open_metrics_have_their_own_list_and_readiness_has_none() -> None:
    app = build(allowed_networks="10.0.0.0/8", metrics_allowed_networks="9.9.9.9/32")
    expected = {
        "10.0.0.1": {"/healthz": 200, "/readyz": 200, "/metrics": 403},
        "9.9.9.9": {"/healthz": 200, "/readyz": 403, "/metrics": 200},
        "8.8.8.8": {"/healthz": 200, "/readyz": 403, "/metrics": 403},
    }
    for peer, statuses in expected.items():
        async with call(app, peer) as client:
            assert {path: (await client.get(path)).status_code for path in statuses} == statuses


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("1.1.1.1", "10.0.0.1", "1.1.1.1"),
        ("192.0.2.1", "8.8.8.8", "8.8.8.8"),
        ("192.0.2.1", "10.0.0.1, 8.8.8.8", "8.8.8.8"),
        ("192.0.2.1", "8.8.8.8, 192.0.2.7", "8.8.8.8"),
        ("192.0.2.1", "192.0.2.9, 192.0.2.7", "192.0.2.9"),
        ("::ffff:192.0.2.1", "::ffff:8.8.8.8", "8.8.8.8"),
        ("192.0.2.1", "[2001:db8::7]:443", "2001:db8::7"),
        ("192.0.2.1", "8.8.8.8:443", "8.8.8.8"),
        ("192.0.2.1", "8.8.8.8, unknown", None),
        ("192.0.2.1", "8.8.8.8,", None),
        ("192.0.2.1", "", "192.0.2.1"),
    ],
)
def test_the_caller_behind_trusted_proxies(peer: str, forwarded: str, caller: str | None) -> None:
    found = find_caller(peer, forwarded, parse_networks("192.0.2.0/24"))
    assert (str(found) if found else None) == caller


async def test_a_request_knows_its_caller_behind_proxies() -> None:
    app = build(trusted_proxies="10.0.0.1/32")

    @app.get("/caller")
    async def tell(request: Request) -> str:
        return str(request.state.caller)

    async with call(app, "10.0.0.1") as client:
        assert (await client.get("/caller", headers={"X-Forwarded-For": "::ffff:10.9.9.9"})).json() == "10.9.9.9"
        assert (await client.get("/caller")).json() == "10.0.0.1"


async def test_several_forwarded_headers_count_as_one() -> None:
    app = build(allowed_networks="10.0.0.0/8", trusted_proxies="192.0.2.1/32")
    async with call(app, "192.0.2.1") as client:
        for values, status in ((["8.8.8.8", "10.0.0.1"], 200), (["10.0.0.1", "8.8.8.8"], 403)):
            answer = await client.post("/echo", headers=[("X-Forwarded-For", value) for value in values])
            assert answer.status_code == status


async def chunks(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


async def test_the_body_limit_holds_with_and_without_a_declared_length() -> None:
    async with call(build()) as client:
        assert (await client.post("/echo", content=b"x" * 100)).json()["size"] == 100
        assert (await client.post("/echo", content=chunks(50, 50))).json()["size"] == 100
        for content in (b"x" * 101, chunks(50, 50, 1)):
            answer = await client.post("/echo", content=content)
            assert answer.status_code == 413
            assert answer.json()["limit"] == 100
            assert "100 bytes" in answer.json()["detail"]
            assert answer.json()["detail"].endswith("Be brief.")


@pytest.mark.parametrize(("given", "kept"), [("a-1.b_2", True), ("x" * 129, False), ("a b", False), ('"', False)])
async def test_request_ids(given: str, kept: bool) -> None:
    async with call(build()) as client:
        answer = await client.post("/echo", headers={"X-Request-ID": given})
        assert (answer.headers["x-request-id"] == given) is kept
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_a_bug_is_a_problem_without_its_detail() -> None:
    async with call(build()) as client:
        answer = await client.get("/bug", headers={"X-Request-ID": "abc"})
        assert answer.status_code == 500
        assert answer.json()["request_id"] == "abc"
        assert "secret" not in answer.text


async def test_readiness_says_what_is_wrong() -> None:
    async def kafka() -> str | None:
        return "does not answer"

    async with call(build({"kafka": kafka})) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"status": "not ready", "checks": {"kafka": "does not answer"}}


def build_hot() -> FastAPI:
    """One path served by the router and, but for its last letter, once more before it."""
    app = FastAPI()

    async def fail(request: Request) -> Response:
        match (await request.body()).decode():
            case "problem":
                raise Problem(409, "already-final", "It is taken.", field="x")
            case "http":
                raise HTTPException(410, "Gone for good.")
            case "outage":
                raise DatabaseUnavailable("secret address")
            case "bug":
                raise RuntimeError("secret detail")
            case said:
                return Response(f"{said} {request.state.request_id}", 202, {"x-made": "here"})

    for path in ("/hot", "/plain"):
        app.post(path)(fail)
    setup_web(app, HttpSettings(), {}, body_limit=100, body_note="Be brief.", hot_posts={"/hot": fail})
    return app


@pytest.mark.parametrize("body", ["fine", "problem", "http", "outage", "bug", "x" * 101])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_hot_post_is_answered_like_any_other(body: str, chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield body.encode()

    async with call(build_hot()) as client:
        headers = {"x-request-id": "r1"}
        hot, plain = [
            await client.post(path, content=pieces() if chunked else body, headers=headers)
            for path in ("/hot", "/plain")
        ]
    assert (hot.status_code, hot.headers, hot.text) == (plain.status_code, plain.headers, plain.text)
    assert hot.status_code == {"fine": 202, "problem": 409, "http": 410, "outage": 503, "bug": 500}.get(body, 413)
    assert "request_id" not in hot.text or hot.json()["request_id"] == "r1"


async def test_other_methods_on_a_hot_path_and_strangers_are_turned_away_as_elsewhere() -> None:
    async with call(build_hot()) as client:
        assert (await client.get("/hot")).status_code == 405
    async with call(build_hot(), "8.8.8.8") as client:
        assert (await client.post("/hot", content="fine")).status_code == 403


async def test_allow_names_the_methods_of_every_route_of_the_path() -> None:
    app = build()

    @app.get("/things")
    async def read() -> None: ...

    @app.post("/things")
    async def add() -> None: ...

    async with call(app) as client:
        answer = await client.delete("/things")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


async def test_a_path_with_a_name_of_its_own_is_nobodys_id() -> None:
    app = build()

    @app.get("/things/{number}")
    async def read(number: int) -> None: ...

    @app.post("/things/all")
    async def add() -> None: ...

    async with call(app) as client:
        named, wrong = await client.get("/things/all"), await client.get("/things/none")
    assert (named.status_code, named.headers["allow"]) == (405, "POST")
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/path/number")
