"""Stored templates over HTTP: versions, previews, and mails that take their content from one."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.gateway.templates.lookup import TemplateLookup
from services.gateway.templates.store import TemplateStore
from shared.access import ApiScope
from shared.database import Database
from tests.support.gateway import Caller, mint, read_requests, serve_gateway
from tests.support.servers import RealServers, run_apart
from tests.support.stack import Stack

CONTENT: dict[str, Any] = {
    "subject": "Welcome, {{ name }}",
    "html": "<p>Hello {{ name }}, your plan is {{ plan }}.</p>",
    "text": "Hello {{ name }}",
    "variables": {"plan": {"default": "free & easy", "description": "what was bought"}},
}
DECLARED = {
    "plan": {"required": False, "default": "free & easy", "description": "what was bought"},
    "name": {"required": True},
}
MAIL = {"from": "a@example.com", "to": ["b@example.org"]}


@dataclass(frozen=True)
class Gateway:
    """An API for this module; a caller who may do everything, one who may send only, one of another account."""

    stack: Stack
    url: str
    caller: Caller
    sender: Caller
    other: Caller


@pytest.fixture(scope="module")
def gateway(real_servers: RealServers) -> Iterator[Gateway]:
    async def mint_all(url: str) -> list[Caller]:
        sends = [ApiScope.EMAILS_SEND, ApiScope.EMAILS_READ]
        everything = [*sends, ApiScope.MAILINGS_ADMIN]
        return [
            await mint(url, scopes=everything, account="shop"),
            await mint(url, scopes=sends, account="shop"),
            await mint(url, scopes=everything, account="other"),
        ]

    with serve_gateway(real_servers, "api") as (stack, (process,)):
        yield Gateway(stack, process.url, *run_apart(mint_all(stack.database_url)))


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30, headers=gateway.caller.headers) as client:
        yield client


@pytest.fixture
async def name(client: httpx.AsyncClient) -> str:
    """A template that was just created."""
    name = f"t-{uuid4().hex[:8]}"
    answer = await client.post("/v1/templates", json={"name": name, **CONTENT})
    assert answer.status_code == 201, answer.text
    return name


def check_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    return document


def pointers(answer: httpx.Response) -> list[str]:
    return sorted(error["pointer"] for error in check_problem(answer, 422)["errors"])


async def test_a_template_is_created_once_and_read_again(client: httpx.AsyncClient, gateway: Gateway) -> None:
    created = await client.post("/v1/templates", json={"name": "order.paid", **CONTENT})
    assert created.status_code == 201
    assert created.headers["location"] == "/v1/templates/order.paid"
    template = created.json()
    assert (template["version"], template["api_key_id"]) == (1, gateway.caller.key.id)
    assert template["variables"] == DECLARED
    assert (await client.get("/v1/templates/order.paid")).json() == template
    again = check_problem(await client.post("/v1/templates", json={"name": "order.paid", **CONTENT}), 409)
    assert again["type"].endswith("template-exists")


async def test_put_makes_a_version_only_of_other_content(client: httpx.AsyncClient, name: str) -> None:
    path = f"/v1/templates/{name}"
    same = await client.put(path, json=CONTENT)
    assert (same.status_code, same.json()["version"]) == (200, 1)
    changed = await client.put(path, json={**CONTENT, "subject": "Hi {{ name }}"})
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    back = await client.put(path, json=CONTENT)
    assert back.json()["version"] == 3
    first = await client.get(path, params={"version": 1})
    assert (first.json()["version"], first.json()["subject"]) == (1, CONTENT["subject"])
    check_problem(await client.get(path, params={"version": 4}), 404)
    assert pointers(await client.get(path, params={"version": 0})) == ["/query/version"]


async def test_versions_saved_at_once_are_all_kept(client: httpx.AsyncClient, name: str) -> None:
    path = f"/v1/templates/{name}"
    saved = await asyncio.gather(*(client.put(path, json={**CONTENT, "subject": f"no {n}"}) for n in range(10)))
    assert sorted(each.json()["version"] for each in saved) == list(range(2, 12))
    page = (await client.get(f"{path}/versions", params={"limit": 6})).json()
    rest = (await client.get(f"{path}/versions", params={"limit": 6, "after": page["next"]})).json()
    assert [each["version"] for each in page["data"] + rest["data"]] == list(range(11, 0, -1))
    assert "next" not in rest


async def test_put_creates_and_delete_ends_while_numbers_go_on(client: httpx.AsyncClient) -> None:
    path = f"/v1/templates/t-{uuid4().hex[:8]}"
    assert (await client.put(path, json=CONTENT)).status_code == 201
    assert (await client.delete(path)).status_code == 204
    for gone in (client.get(path), client.delete(path), client.get(f"{path}/versions")):
        check_problem(await gone, 404)
    again = await client.put(path, json=CONTENT)
    assert (again.status_code, again.json()["version"]) == (201, 2), "no number is used twice"
    check_problem(await client.get(path, params={"version": 1}), 404)


async def test_the_list_is_by_name_and_the_accounts_own(gateway: Gateway, client: httpx.AsyncClient) -> None:
    for each in ("c", "a", "b"):
        await client.put(f"/v1/templates/list-{each}", json=CONTENT, headers=gateway.other.headers)
    listed: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await client.get("/v1/templates", params={"limit": 2, **after}, headers=gateway.other.headers)).json()
        listed += [each["name"] for each in page["data"]]
        if "next" not in page:
            break
        after = {"after": page["next"]}
    assert listed == ["list-a", "list-b", "list-c"]
    check_problem(await client.get("/v1/templates/list-a"), 404)
    assert pointers(await client.get("/v1/templates", params={"after": "x"})) == ["/query/after"]


async def test_changing_needs_more_than_sending(gateway: Gateway, client: httpx.AsyncClient, name: str) -> None:
    headers, path = gateway.sender.headers, f"/v1/templates/{name}"
    changes = (
        client.post("/v1/templates", json={"name": "x", **CONTENT}, headers=headers),
        client.put(path, json=CONTENT, headers=headers),
        client.delete(path, headers=headers),
    )
    for change in changes:
        assert check_problem(await change, 403)["scope"] == "mailings:admin"
    assert (await client.get(path, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"html": "<p>\n{{ name </p>"}, "/html"),
        ({"subject": "{% if name %}"}, "/subject"),
        ({"html": None, "text": None}, "/html"),
        ({"name": "two words"}, "/name"),
        ({"variables": {"a-b": {}}}, "/variables/a-b"),
        ({"variables": {"a": {"default": 1, "required": True}}}, "/variables/a/required"),
        ({"colour": "blue"}, "/colour"),
    ],
)
async def test_what_is_no_template_is_pointed_at(
    client: httpx.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    found = pointers(await client.post("/v1/templates", json={"name": "bad", **CONTENT, **change}))
    assert len(found) == 1
    assert found[0].startswith(pointer)


async def test_a_mistake_is_told_with_its_line(client: httpx.AsyncClient) -> None:
    body = {"template": {"subject": "s", "html": "<p>\n{{ name|shout }}</p>"}}
    answer = await client.post("/v1/templates/preview", json=body)
    assert check_problem(answer, 422)["errors"] == [
        {"detail": "filter shout is unknown (line 2)", "pointer": "/template/html"}
    ]


async def test_previews(client: httpx.AsyncClient, name: str) -> None:
    whole = {
        "subject": "Welcome, Ann",
        "html": "<p>Hello Ann, your plan is free &amp; easy.</p>",
        "text": "Hello Ann",
        "missing": [],
        "errors": [],
    }
    values = {"variables": {"name": "Ann"}}
    assert (await client.post(f"/v1/templates/{name}/preview", json=values)).json() == whole
    assert (await client.post("/v1/templates/preview", json={"template": CONTENT, **values})).json() == whole
    bare = (await client.post(f"/v1/templates/{name}/preview", params={"version": 1})).json()
    assert (bare["subject"], bare["missing"]) == ("Welcome, {{ name }}", ["name"])


async def test_a_mail_takes_the_whole_content_into_its_event(
    gateway: Gateway, client: httpx.AsyncClient, name: str
) -> None:
    await client.put(f"/v1/templates/{name}", json={**CONTENT, "subject": "Second, {{ name }}"})
    ids = []
    for choice in ({"name": name}, {"name": name, "version": 1}):
        body = {**MAIL, "template": choice, "variables": {"name": "Ann"}}
        answer = await client.post("/v1/emails", json=body, headers=gateway.sender.headers)
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["id"])
    events = {record.key.decode(): json.loads(record.value) for record in await read_requests(gateway.stack)}
    for email_id, version, subject in zip(ids, (2, 1), ("Second, {{ name }}", CONTENT["subject"]), strict=True):
        event = events[email_id]
        assert event.pop("requested_at")
        assert event == {
            "id": email_id,
            "from": "a@example.com",
            "to": ["b@example.org"],
            "subject": subject,
            "html": CONTENT["html"],
            "text": CONTENT["text"],
            "variables": {"plan": "free & easy", "name": "Ann"},
            "template": {"name": name, "version": version},
            "account": "shop",
            "api_key_id": gateway.sender.key.id,
        }


async def test_what_a_template_misses_is_named(gateway: Gateway, client: httpx.AsyncClient, name: str) -> None:
    def post(**fields: Any) -> Any:
        return client.post("/v1/emails", json={**MAIL, "template": {"name": name}, **fields})

    assert pointers(await post()) == ["/variables/name"]
    assert pointers(await post(template={"name": "nowhere"})) == ["/template/name"]
    assert pointers(await post(template={"name": name, "version": 7})) == ["/template/version"]
    assert pointers(await post(subject="x", variables={"name": "Ann"})) == ["/subject"]
    answer = await client.post("/v1/emails", json={**MAIL, "template": {"name": name}}, headers=gateway.other.headers)
    assert pointers(answer) == ["/template/name"]


async def test_a_new_version_and_a_deletion_act_within_five_seconds(client: httpx.AsyncClient, name: str) -> None:
    body = {**MAIL, "template": {"name": name}, "variables": {"name": "Ann"}}
    assert (await client.post("/v1/emails", json=body)).status_code == 202
    await client.delete(f"/v1/templates/{name}")
    deleted_at = time.monotonic()
    while (await client.post("/v1/emails", json=body)).status_code != 422:
        assert time.monotonic() - deleted_at < 5
        await asyncio.sleep(0.1)


async def test_a_request_that_is_repeated_takes_the_version_of_its_first_try(
    gateway: Gateway, client: httpx.AsyncClient, name: str
) -> None:
    await client.put(f"/v1/templates/{name}", json={**CONTENT, "subject": "Hi {{ name }}"})
    database = Database(gateway.stack.database_url, pool_size=1)
    try:
        age = (
            "UPDATE gateway.template_versions SET created_at = now() - interval '1 min' WHERE name = $1 AND version = 1"
        )
        await database.fetch(age, name)
        lookup, fields = TemplateLookup(TemplateStore(database)), {**MAIL, "template": {"name": name}}
        fields["variables"] = {"name": "Ann"}
        now = datetime.now(UTC)
        for ago, version in ((600, 1), (30, 1), (-10, 2), (None, 2)):
            moment = None if ago is None else now - timedelta(seconds=ago)
            assert (await lookup.resolve("shop", fields, moment))["template"].version == version, ago
    finally:
        await database.close()
