"""Asking over HTTP that a mail be not sent: what lies in Kafka then, and what the caller is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from deploy.local.ports import find_free_port
from shared.access import ApiScope
from shared.events import CancellationRequested, new_email_id
from tests.support.events import publish_json, publish_raw
from tests.support.gateway import Caller, mint, poll, read_requests, serve_gateway
from tests.support.outage import DatabaseProxy
from tests.support.servers import RealServers, run_apart
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.stack import Stack

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
MAIL = {"from": "a@example.com", "to": ["b@example.org"], "subject": "s", "text": "t"}


@dataclass(frozen=True)
class Gateway:
    """An API and a worker for this module, and callers of two accounts."""

    stack: Stack
    api: ServiceProcess
    caller: Caller
    other: Caller


@pytest.fixture(scope="module")
def gateway(real_servers: RealServers) -> Iterator[Gateway]:
    with serve_gateway(real_servers, "api", "worker") as (stack, (api, _worker)):
        caller = run_apart(mint(stack.database_url, account="shop"))
        other = run_apart(mint(stack.database_url, account="other"))
        yield Gateway(stack, api, caller, other)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    headers = gateway.caller.headers
    async with httpx.AsyncClient(base_url=gateway.api.url, timeout=30, headers=headers) as client:
        yield client


async def read_wishes(stack: Stack, email_id: UUID | str) -> list[Any]:
    """The cancellations of one mail that lie on email.requested."""
    found = [each for each in await read_requests(stack) if each.key == str(email_id).encode()]
    return [each for each in found if dict(each.headers).get("ce_type") == b"email.cancellation_requested"]


async def end_mail(gateway: Gateway, client: httpx.AsyncClient, **fields: Any) -> UUID:
    """A mail of the caller's account that has come to its end."""
    email_id = new_email_id()
    await publish_json(gateway.stack, {**MAIL, "id": str(email_id), "account": "shop"})
    result = {"id": str(email_id), "attempt": 1, "account": "shop", "complete": True, "outstanding": 0, **fields}
    topic, kind = gateway.stack.topics.failed, b"email.failed"
    if "reason" not in fields:
        topic, kind = gateway.stack.topics.sent, b"email.sent"
        result |= {"recipients": ["b@example.org"], "message_id": "<m@x>", "relay": "r", "response": "250 ok"}
        result["sent_at"] = datetime.now(UTC).isoformat()
    await publish_raw(gateway.stack, json.dumps(result).encode(), topic=topic, headers=[("ce_type", kind)])
    await poll(client, f"/v1/emails/{email_id}", lambda email: email["complete"])
    return email_id


async def test_an_id_nobody_has_seen_yet_is_taken_and_the_wish_lies_in_kafka(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    email_id = uuid4()
    traceparent = f"00-{TRACE_ID}-b7ad6b7169203331-01"
    answer = await client.post(f"/v1/emails/{email_id}/cancel", headers={"traceparent": traceparent})
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"id": str(email_id), "status": "cancellation_requested"}
    assert answer.headers["location"] == f"/v1/emails/{email_id}"
    (record,) = await read_wishes(gateway.stack, email_id)
    wish = CancellationRequested.model_validate_json(record.value)
    assert (wish.id, wish.account, wish.cancel) == (email_id, "shop", True)
    headers = {name: value.decode() for name, value in record.headers}
    assert headers["traceparent"].split("-")[1] == TRACE_ID
    assert headers["ce_source"] == "/milena/gateway"
    assert (await client.get(f"/v1/emails/{email_id}")).status_code == 404, "a wish makes no mail"


async def test_a_waiting_mail_shows_the_wish_in_its_timeline(gateway: Gateway, client: httpx.AsyncClient) -> None:
    email_id = new_email_id()
    await publish_json(gateway.stack, {**MAIL, "id": str(email_id), "account": "shop"})
    await poll(client, f"/v1/emails/{email_id}", lambda email: email["status"] == "queued")
    for _ in range(2):
        assert (await client.post(f"/v1/emails/{email_id}/cancel")).status_code == 202
    wished = "email.cancellation_requested"
    timeline = await poll(
        client, f"/v1/emails/{email_id}/events", lambda shown: wished in [each["type"] for each in shown["events"]]
    )
    assert timeline["status"] == "queued", "the wish alone stops nothing"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "sent"),
        ({"reason": "rejected"}, "failed"),
        ({"reason": "cancelled"}, "cancelled"),
        ({"reason": "expired"}, "expired"),
    ],
)
async def test_a_mail_at_its_end_cannot_be_cancelled(
    gateway: Gateway, client: httpx.AsyncClient, fields: dict[str, Any], status: str
) -> None:
    refused = {"recipients": [{"address": "b@example.org", "diagnostic": "no"}], "final": True}
    email_id = await end_mail(gateway, client, **({**refused, **fields} if fields else {}))
    answer = await client.post(f"/v1/emails/{email_id}/cancel")
    assert answer.status_code == 409
    problem = answer.json()
    assert problem["type"] == "/problems/already-final"
    assert (problem["status"], problem["email_status"], problem["id"]) == (409, status, str(email_id))
    assert await read_wishes(gateway.stack, email_id) == []


async def test_the_mail_of_another_account_looks_like_an_unknown_one(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    email_id = await end_mail(gateway, client)
    answer = await client.post(f"/v1/emails/{email_id}/cancel", headers=gateway.other.headers)
    assert answer.status_code == 202
    assert answer.json() == {"id": str(email_id), "status": "cancellation_requested"}
    (record,) = await read_wishes(gateway.stack, email_id)
    assert json.loads(record.value)["account"] == "other"


async def test_who_may_not_send_may_not_cancel_and_ids_are_checked(gateway: Gateway, client: httpx.AsyncClient) -> None:
    reader = await mint(gateway.stack.database_url, scopes=[ApiScope.EMAILS_READ])
    path = f"/v1/emails/{uuid4()}/cancel"
    refused = await client.post(path, headers=reader.headers)
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/scope-missing")
    assert (await client.post(path, headers={"authorization": ""})).status_code == 401
    malformed = await client.post("/v1/emails/not-an-id/cancel")
    assert malformed.status_code == 422
    assert malformed.headers["content-type"] == "application/problem+json"


async def test_the_route_is_documented_with_its_problems(gateway: Gateway, client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    route = document["paths"]["/v1/emails/{email_id}/cancel"]["post"]
    assert {"202", "401", "403", "409", "422", "503"} <= set(route["responses"])
    assert "never that the mail was stopped" in route["description"]


async def test_a_wish_goes_out_while_postgres_is_away(services: ServiceRunner, stack: Stack) -> None:
    caller = await mint(stack.database_url)
    async with DatabaseProxy(stack.database_url) as proxy:
        api = services.start("services.gateway", "api", env={"MILENA_DATABASE_URL": proxy.url})
        await api.wait_ready()
        async with httpx.AsyncClient(base_url=api.url, timeout=30, headers=caller.headers) as client:
            assert (await client.post(f"/v1/emails/{uuid4()}/cancel")).status_code == 202
            await proxy.cut()
            email_id = uuid4()
            assert (await client.post(f"/v1/emails/{email_id}/cancel")).status_code == 202
    assert len(await read_wishes(stack, email_id)) == 1


async def test_without_kafka_a_wish_is_refused(services: ServiceRunner, stack: Stack) -> None:
    caller = await mint(stack.database_url)
    nowhere = {"MILENA_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{find_free_port()}"}
    api = services.start("services.gateway", "api", env=nowhere)
    async with httpx.AsyncClient(base_url=api.url, timeout=30, headers=caller.headers) as client:
        for _ in range(300):
            try:
                answer = await client.post(f"/v1/emails/{uuid4()}/cancel")
                break
            except httpx.HTTPError:
                await asyncio.sleep(0.1)
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/kafka-unavailable"
    assert answer.json()["outcome"] == "refused"
    assert int(answer.headers["retry-after"]) > 0
