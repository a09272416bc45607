"""A mail that comes in over HTTP lies in Kafka, exactly as it was meant."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from deploy.local.ports import find_free_port
from shared.events import EmailRequested
from tests.support.gateway import FULL, SIMPLE, Api, Caller, mint, read_requests, serve_api
from tests.support.outage import DatabaseProxy
from tests.support.servers import RealServers
from tests.support.services import ServiceRunner
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def api(real_servers: RealServers) -> Iterator[Api]:
    with serve_api(real_servers) as api:
        yield api


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=api.process.url, timeout=30) as client:
        yield client


async def read_event(api: Api, answer: httpx.Response) -> tuple[EmailRequested, dict[str, Any], dict[str, str]]:
    """What lies in Kafka for a 202: the event, its JSON and its headers; checks that they belong together."""
    assert answer.status_code == 202, answer.text
    email_id = answer.json()["id"]
    assert answer.json() == {"id": email_id, "status": "queued"}
    assert answer.headers["location"] == f"/v1/emails/{email_id}"
    assert UUID(email_id).version == 7
    (record,) = [each for each in await read_requests(api.stack) if each.key.decode() == email_id]
    data = json.loads(record.value)
    assert data["id"] == email_id
    return EmailRequested.model_validate(data), data, {name: value.decode() for name, value in record.headers}


async def test_the_simple_form(api: Api, client: httpx.AsyncClient) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await client.post("/email/", json={**SIMPLE, "token": api.caller.secret}, headers={"traceparent": trace})
    event, data, headers = await read_event(api, answer)
    assert [box.address for box in event.to] == ["addr1@gmail.com", "addr2@hotmail.com"]
    assert (event.subject, event.text, event.html) == ("Grüße", "Hello", "<strong>Hello</strong>")
    assert event.callback == SIMPLE["callback"]
    assert (event.account, event.api_key_id) == ("default", api.caller.key.id)
    assert event.requested_at is not None
    assert "token" not in data
    assert api.caller.secret not in json.dumps(data)
    assert headers["ce_type"] == "email.requested"
    assert headers["ce_id"] == str(event.id)
    assert headers["ce_source"] == "/milena/gateway"
    assert headers["ce_specversion"] == "1.0"
    assert headers["content-type"] == "application/json"
    assert headers["traceparent"].split("-")[1] == trace.split("-")[1]


@pytest.mark.parametrize("path", ["/email", "/email/"])
@pytest.mark.parametrize("kind", ["urlencoded", "multipart", "curl", "json"])
async def test_every_way_of_writing_the_simple_form(api: Api, client: httpx.AsyncClient, kind: str, path: str) -> None:
    body = {**SIMPLE, "token": api.caller.secret, "callback": ""}
    match kind:
        case "urlencoded":
            answer = await client.post(path, data=body)
        case "multipart":
            fields = {name: (None, value) for name, value in body.items()}
            answer = await client.post(path, files=fields)
        case "curl":  # curl -d '{…}' says that JSON is a form
            headers = {"content-type": "application/x-www-form-urlencoded"}
            answer = await client.post(path, content=json.dumps(body), headers=headers)
        case _:
            array = ["addr1@gmail.com", "addr2@hotmail.com"]
            answer = await client.post(path, json={**body, "callback": None, "to": array})
    event, _, _ = await read_event(api, answer)
    assert (event.subject, event.text, event.html) == ("Grüße", "Hello", "<strong>Hello</strong>")
    assert event.callback is None
    assert event.recipients == ["addr1@gmail.com", "addr2@hotmail.com"]


async def test_recipients_are_named_once_and_the_key_may_stand_in_the_header(
    api: Api, client: httpx.AsyncClient
) -> None:
    body = {**SIMPLE, "to": '"Doe, Ann" <a@x.org>, b@x.org, a@X.ORG', "from": "No Reply <NO-REPLY@example.com>"}
    event, _, _ = await read_event(api, await client.post("/email/", json=body, headers=api.caller.headers))
    assert [(box.name, box.address) for box in event.to] == [("Doe, Ann", "a@x.org"), ("", "b@x.org")]
    assert event.from_.name == "No Reply"


@pytest.mark.parametrize("absent", [{}, {"text_content": None}, {"text_content": ""}])
async def test_an_absent_text_is_derived_from_the_html(
    api: Api, client: httpx.AsyncClient, absent: dict[str, Any]
) -> None:
    html = "<style>p {}</style><h1>Order</h1><p>Thank <b>you</b>: <a href='https://x.org/?a=1&amp;b=2'>here</a></p>"
    body = {name: value for name, value in SIMPLE.items() if name != "text_content"}
    answer = await client.post("/email/", json={**body, **absent, "html_content": html, "token": api.caller.secret})
    event, _, _ = await read_event(api, answer)
    assert event.text is not None
    assert "Thank you" in event.text
    assert "https://x.org/?a=1&b=2" in event.text
    assert "<" not in event.text


async def test_the_full_form(api: Api, client: httpx.AsyncClient) -> None:
    only = await mint(api.stack.database_url, "only@example.com")
    body = {
        "to": ["Ann <ann@example.org>", {"address": "bob@example.org", "name": "Bob"}],
        "cc": "c@example.org, d@example.org",
        "bcc": ["hidden@example.org"],
        "reply_to": ["r@example.org"],
        "envelope_from": "only@example.com",
        "subject": "Hello {{ name }}",
        "html": "<p>{{ name }}</p>",
        "variables": {"name": "Ann"},
        "headers": {"X-Campaign": "spring"},
        "attachments": [{"filename": "a.txt", "content_type": "text/plain", "content": "SGk=", "content_id": "c1"}],
        "send_at": "2030-01-01T10:00:00+02:00",
        "expires_at": "2030-01-02T10:00:00+02:00",
        "priority": "bulk",
        "callback": {"url": "https://x.org/?q=1", "on": ["sent", "deferred"]},
        "metadata": {"order": {"id": 12}},
        "tags": ["a", "b"],
        "on_unknown": "hold",
    }
    event, data, _ = await read_event(api, await client.post("/v1/emails", json=body, headers=only.headers))
    assert event.from_.address == "only@example.com"
    assert event.recipients == [f"{name}@example.org" for name in ("ann", "bob", "c", "d", "hidden")]
    assert data["subject"] == "Hello {{ name }}"  # rendered by the sender, once and for good
    assert "text" not in data
    assert data["send_at"] == "2030-01-01T08:00:00Z"
    assert {name: data[name] for name in ("headers", "attachments", "priority", "callback", "metadata", "tags")} == {
        name: body[name] for name in ("headers", "attachments", "priority", "callback", "metadata", "tags")
    }
    assert event.variables == {"name": "Ann"}
    assert event.on_unknown == "hold"


@pytest.fixture
async def caller(stack: Stack) -> Caller:
    return await mint(stack.database_url)


class TestNetworks:
    async def test_only_allowed_networks_may_call(self, services: ServiceRunner, caller: Caller) -> None:
        api = services.start("services.gateway", "api", env={"MILENA_ALLOWED_NETWORKS": "10.0.0.0/8"})
        async with httpx.AsyncClient(base_url=api.url) as client:
            await wait_alive(client)
            answer = await client.post("/email/", json={**SIMPLE, "token": caller.secret})
            assert answer.status_code == 403
            assert answer.json()["type"] == "/problems/network-not-allowed"
            spoofed = await client.post("/v1/emails", json=FULL, headers={"X-Forwarded-For": "10.0.0.1"})
            assert spoofed.status_code == 403

    async def test_a_named_proxy_is_believed_its_right_most_address(
        self, services: ServiceRunner, caller: Caller
    ) -> None:
        env = {"MILENA_ALLOWED_NETWORKS": "10.0.0.0/8", "MILENA_TRUSTED_PROXIES": "127.0.0.1/32"}
        api = services.start("services.gateway", "api", env=env)
        async with httpx.AsyncClient(base_url=api.url, headers=caller.headers) as client:
            await wait_alive(client)
            path = "/v1/emails/01900000-0000-7000-8000-000000000000"
            for forwarded, status in (("10.0.0.1", 404), ("8.8.8.8", 403), ("10.0.0.1, 8.8.8.8", 403)):
                assert (await client.get(path, headers={"X-Forwarded-For": forwarded})).status_code == status


async def wait_alive(client: httpx.AsyncClient, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            assert (await client.get("/healthz")).status_code == 200
        except httpx.ConnectError:
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("the process never listened")


class TestKafkaAway:
    async def test_an_api_started_without_kafka_refuses_until_it_comes(
        self, services: ServiceRunner, caller: Caller
    ) -> None:
        nowhere = {"MILENA_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{find_free_port()}"}
        api = services.start("services.gateway", "api", env=nowhere)
        async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
            await wait_alive(client)
            assert (await client.get("/readyz")).status_code == 503
            began = time.monotonic()
            for path in ("/email/", "/v1/emails"):
                body = {**SIMPLE, "token": caller.secret} if path == "/email/" else FULL
                answer = await client.post(path, json=body, headers=caller.headers)
                assert answer.status_code == 503
                assert answer.headers["content-type"] == "application/problem+json"
                assert int(answer.headers["retry-after"]) > 0
                assert answer.json()["outcome"] == "refused"
                assert "id" not in answer.json()
            assert time.monotonic() - began < 4, "known to be away, yet waited for"


class TestPostgresAway:
    async def test_known_keys_go_on_and_others_are_told_to_wait(
        self, services: ServiceRunner, stack: Stack, caller: Caller
    ) -> None:
        stranger = await mint(stack.database_url)
        async with DatabaseProxy(stack.database_url) as proxy:
            api = services.start("services.gateway", "api", env={"MILENA_DATABASE_URL": proxy.url})
            await api.wait_ready()
            async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
                first = await client.post("/email/", json={**SIMPLE, "token": caller.secret})
                assert first.status_code == 202
                await proxy.cut()
                await asyncio.sleep(3.5)  # the cached key is due to be asked for again
                for _ in range(5):
                    answer = await client.post("/email/", json={**SIMPLE, "token": caller.secret})
                    assert answer.status_code == 202
                headers = {"Idempotency-Key": "k"}
                once = await client.post("/email/", json={**SIMPLE, "token": caller.secret}, headers=headers)
                assert (once.status_code, once.json()["outcome"]) == (503, "refused"), "nothing says that it is new"
                unknown = await client.post("/email/", json={**SIMPLE, "token": stranger.secret})
                assert unknown.status_code == 503
                assert int(unknown.headers["retry-after"]) > 0
                read = await client.get(first.headers["location"], headers=caller.headers)
                assert read.status_code == 503
                assert (await client.get("/readyz")).status_code == 200, "known keys can still send"
                await proxy.mend()
                for _ in range(50):
                    answer = await client.post("/email/", json={**SIMPLE, "token": stranger.secret})
                    if answer.status_code == 202:
                        break
                    await asyncio.sleep(0.2)
                assert answer.status_code == 202
        assert len(await read_requests(stack)) == 7

    async def test_an_api_started_without_postgres_becomes_ready_when_it_comes(
        self, services: ServiceRunner, stack: Stack, caller: Caller
    ) -> None:
        async with DatabaseProxy(stack.database_url) as proxy:
            await proxy.cut()
            api = services.start("services.gateway", "api", env={"MILENA_DATABASE_URL": proxy.url})
            async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
                await wait_alive(client)
                assert (await client.get("/readyz")).status_code == 503
                answer = await client.post("/email/", json={**SIMPLE, "token": caller.secret})
                assert answer.status_code == 503
                await proxy.mend()
                await api.wait_ready()
                answer = await client.post("/email/", json={**SIMPLE, "token": caller.secret})
                assert answer.status_code == 202
