"""Who is turned away, for every operation of every API: no key, a wrong one, one that may not, a network that may not.

The operations are those of the OpenAPI documents, so a new one is in by itself. Which scope each asks for is written in
docs/security.md, and changes only together with it.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import WebSocketRoute

from tests.support.endpoints import (
    INSIDE,
    OUTSIDE,
    Keyring,
    Operation,
    build_apis,
    knock,
    list_operations,
    list_scopes,
    read_problem,
)
from tests.support.security_page import PAGE, ask_scopes, read_scope, render_page

# Asks for no key: probes of load balancers, metrics (with networks of their own), the documents of the API.
KEYLESS = {
    "/healthz",
    "/readyz",
    "/metrics",
    "/problems/",
    "/problems/{slug}",
    "/openapi.json",
    "/docs",
    "/docs/oauth2-redirect",
}
_keyring = Keyring()
with _keyring.in_force():
    APIS = build_apis()
OPERATIONS = list_operations(APIS)
KEYED = [each for each in OPERATIONS if not each.is_public]
# For whoever has a signed link: mail programs all over the internet.
PUBLIC = {"GET /unsubscribe/{token}", "POST /unsubscribe/{token}"}
POWERLESS, ALMIGHTY = _keyring.mint(), _keyring.mint(*list_scopes())


@pytest.fixture(autouse=True)
def keys() -> Iterator[None]:
    with _keyring.in_force():
        yield


def check_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    is_enveloped = answer.url.path.startswith("/api/tasks.")
    assert answer.headers["content-type"] == ("application/json" if is_enveloped else "application/problem+json")
    assert ("success" in answer.json()) is is_enveloped
    document: dict[str, Any] = read_problem(answer)
    assert document["type"].rpartition("/")[2].rpartition(":")[2] == slug
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


@pytest.mark.parametrize("operation", KEYED, ids=str)
async def test_without_a_key_that_is_valid_nobody_gets_in(operation: Operation) -> None:
    for secret in (None, "wrong", "mk_" + "x" * 43):
        answer = await operation.call(secret)
        check_problem(answer, 401, "not-authenticated")
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("operation", KEYED, ids=str)
async def test_one_scope_lets_in_and_all_others_together_do_not(operation: Operation) -> None:
    scope = check_problem(await operation.call(POWERLESS), 403, "scope-missing")["scope"]
    assert scope in list_scopes()
    others = _keyring.mint(*(each for each in list_scopes() if each != scope))
    assert check_problem(await operation.call(others), 403, "scope-missing")["scope"] == scope
    try:
        async with asyncio.timeout(3):
            answer = await operation.call(_keyring.mint(scope))
    except TimeoutError:
        return  # it has begun to answer, or waits for a server that is away: it let the caller in
    assert answer.status_code != 401
    assert read_scope(answer) == ""


def test_who_has_no_key_may_ask_for_nothing_else() -> None:
    found = {str(each) for each in OPERATIONS if each.is_public}
    assert found == PUBLIC


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.is_public], ids=str)
async def test_for_a_link_no_network_is_too_far_and_a_key_is_no_link(operation: Operation) -> None:
    for secret in (None, ALMIGHTY):
        for peer in (INSIDE, OUTSIDE):
            check_problem(await operation.call(secret, peer), 404, "unknown-link")


@pytest.mark.parametrize("operation", KEYED, ids=str)
async def test_from_a_network_that_is_not_allowed_no_key_helps(operation: Operation) -> None:
    for secret in (None, ALMIGHTY):
        check_problem(await operation.call(secret, OUTSIDE), 403, "network-not-allowed")


def list_undocumented() -> Iterator[tuple[str, str, str]]:
    """Service, method and path of what no document tells and asks for a key all the same."""
    documented = {(each.method, each.path) for each in OPERATIONS}
    for service, app in APIS.items():
        for route in app.routes:
            if isinstance(route, APIRoute) and route.path not in KEYLESS:
                methods = sorted((route.methods or set()) - {"HEAD"})
                yield from (
                    (service, each, route.path_format)
                    for each in methods
                    if (each, route.path_format) not in documented
                )


@pytest.mark.parametrize(("service", "method", "path"), list(list_undocumented()))
async def test_what_no_document_tells_asks_for_a_key_all_the_same(service: str, method: str, path: str) -> None:
    transport = httpx.ASGITransport(app=APIS[service], raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        check_problem(await client.request(method, path, json={}), 401, "not-authenticated")


@pytest.mark.parametrize("service", APIS)
async def test_no_socket_is_opened_without_a_key_or_from_elsewhere(service: str) -> None:
    paths = [route.path for route in APIS[service].routes if isinstance(route, WebSocketRoute)]
    for path in [*paths, "/v1/none"]:
        for peer in (INSIDE, OUTSIDE):
            assert await knock(APIS[service], path, peer) in ("websocket.close", "websocket.http.response.start")


def test_every_route_is_of_a_kind_that_is_tried_here() -> None:
    others = [
        route
        for app in APIS.values()
        for route in app.routes
        if getattr(route, "path", "") not in KEYLESS and not isinstance(route, APIRoute | WebSocketRoute)
    ]
    assert others == [], "does it ask for a key? Then try it here, or else name it in KEYLESS"


async def test_the_table_of_scopes_is_current() -> None:
    page = PAGE.read_text()
    assert page == render_page(page, await ask_scopes()), "make docs"
