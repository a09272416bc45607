"""Trying mails again over HTTP: what lies in Kafka then, and what the caller is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from shared.access import ApiScope
from shared.events import EmailRequested, new_email_id
from tests.support.events import publish_json, publish_raw
from tests.support.gateway import Caller, mint, poll, read_requests, serve_gateway
from tests.support.servers import RealServers, run_apart
from tests.support.services import ServiceProcess
from tests.support.stack import Stack

MAIL = {"from": "a@example.com", "to": ["ann@x.org", "bob@x.org"], "subject": "s", "text": "t", "account": "shop"}
TYPE = "/problems/"


@dataclass(frozen=True)
class Gateway:
    """An API and a worker for this module, and a caller."""

    stack: Stack
    api: ServiceProcess
    caller: Caller


@pytest.fixture(scope="module")
def gateway(real_servers: RealServers) -> Iterator[Gateway]:
    with serve_gateway(real_servers, "api", "worker") as (stack, (api, _worker)):
        yield Gateway(stack, api, run_apart(mint(stack.database_url, account="shop")))


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.api.url, timeout=30, headers=gateway.caller.headers) as client:
        yield client


async def publish_result(gateway: Gateway, email_id: UUID, **states: str) -> None:
    """What a sender would say: `ann="sent"`, `bob="failed/rejected"`, or `unknown/unknown`."""
    told = {f"{name}@x.org": text.partition("/") for name, text in states.items()}
    open_ = sum(1 for state, _, _ in told.values() if state == "unknown")
    common = {"id": str(email_id), "attempt": 1, "account": "shop", "outstanding": open_, "complete": not open_}
    for address, (state, _, reason) in told.items():
        if state == "sent":
            data = common | {"recipients": [address], "message_id": "<m@x>", "relay": "r", "response": "250 ok"}
            data["sent_at"] = datetime.now(UTC).isoformat()
            topic, kind = gateway.stack.topics.sent, b"email.sent"
        else:
            refused = {"recipients": [{"address": address, "diagnostic": "no"}]}
            data = common | refused | {"reason": reason, "final": state == "failed"}
            topic, kind = gateway.stack.topics.failed, b"email.failed"
        await publish_raw(gateway.stack, json.dumps(data).encode(), topic=topic, headers=[("ce_type", kind)])


async def end_mail(
    gateway: Gateway, client: httpx.AsyncClient, fields: dict[str, Any] | None = None, **states: str
) -> UUID:
    """A mail of the caller's account that has come to rest."""
    email_id = new_email_id()
    await publish_json(gateway.stack, {**MAIL, "id": str(email_id), **(fields or {})})
    await publish_result(gateway, email_id, **states)
    await await_rest(client, email_id, len(states))
    return email_id


async def await_rest(client: httpx.AsyncClient, email_id: UUID | str, count: int) -> None:
    def all_known(email: dict[str, Any]) -> bool:
        known = [each for each in email["recipients"] if each["state"] not in ("pending", "deferred")]
        return len(known) == count == len(email["recipients"]) and email["subject"] is not None

    await poll(client, f"/v1/emails/{email_id}", all_known)


async def find_retries(stack: Stack, email_id: UUID) -> list[EmailRequested]:
    """What lies on email.requested as a retry of the mail."""
    records = await read_requests(stack)
    found = [each for each in records if b'"retry_of":"' + str(email_id).encode() in each.value]
    assert all(dict(each.headers)["ce_type"] == b"email.requested" for each in found)
    return [EmailRequested.model_validate_json(each.value) for each in found]


async def test_a_retry_is_a_new_mail_for_those_who_got_nothing(gateway: Gateway, client: httpx.AsyncClient) -> None:
    email_id = await end_mail(gateway, client, {"tags": ["june"]}, ann="sent", bob="failed/rejected")
    answer = await client.post(f"/v1/emails/{email_id}/retry")
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["retry_of"], body["recipients"]) == (str(email_id), 1)
    assert answer.headers["location"] == f"/v1/emails/{body['id']}"
    (mail,) = await find_retries(gateway.stack, email_id)
    assert (str(mail.id), mail.recipients, mail.tags) == (body["id"], ["bob@x.org"], ["june"])
    assert (mail.account, mail.api_key_id) == ("shop", gateway.caller.key.id)
    shown = await poll(client, f"/v1/emails/{body['id']}", lambda email: email["status"] == "queued")
    assert shown["retry_of"] == str(email_id)


async def test_a_retry_asked_for_again_under_its_key_is_answered_as_before(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    email_id = await end_mail(gateway, client, ann="failed/rejected", bob="failed/rejected")
    headers = {"Idempotency-Key": f'"{email_id}"'}
    first, again = [await client.post(f"/v1/emails/{email_id}/retry", headers=headers) for _ in range(2)]
    assert (first.status_code, again.content) == (202, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert len(await find_retries(gateway.stack, email_id)) == 1


async def test_a_second_retry_waits_for_the_first_and_then_takes_only_what_it_left(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    email_id = await end_mail(gateway, client, ann="failed/rejected", bob="failed/rejected")
    answers = await asyncio.gather(*(client.post(f"/v1/emails/{email_id}/retry") for _ in range(5)))
    assert sorted(each.status_code for each in answers) == [202, 409, 409, 409, 409], "clicked five times at once"
    (first,) = [each.json() for each in answers if each.status_code == 202]
    refused = await client.post(f"/v1/emails/{email_id}/retry")
    assert refused.status_code == 409
    assert (refused.json()["type"], refused.json()["retry_id"]) == (f"{TYPE}retry-in-progress", first["id"])
    await publish_result(gateway, UUID(first["id"]), ann="sent", bob="failed/rejected")
    await await_rest(client, first["id"], 2)
    second = await client.post(f"/v1/emails/{email_id}/retry")
    assert (second.status_code, second.json()["recipients"]) == (202, 1)
    await publish_result(gateway, UUID(second.json()["id"]), bob="sent")
    await await_rest(client, second.json()["id"], 1)
    for each in (email_id, first["id"]):
        nothing = await client.post(f"/v1/emails/{each}/retry")
        assert (nothing.status_code, nothing.json()["type"]) == (409, f"{TYPE}nothing-to-retry")


async def test_an_unknown_outcome_is_retried_only_when_told_so(gateway: Gateway, client: httpx.AsyncClient) -> None:
    email_id = await end_mail(gateway, client, ann="sent", bob="unknown/unknown")
    path = f"/v1/emails/{email_id}/retry"
    refused = await client.post(path)
    assert (refused.status_code, refused.json()["type"]) == (409, f"{TYPE}outcome-unknown")
    assert "include_unknown" in refused.json()["detail"]
    answer = await client.post(path, json={"include_unknown": True})
    assert (answer.status_code, answer.json()["recipients"]) == (202, 1)


async def test_what_cannot_be_retried_says_why(gateway: Gateway, client: httpx.AsyncClient) -> None:
    waiting = new_email_id()
    await publish_json(gateway.stack, {**MAIL, "id": str(waiting)})
    await poll(client, f"/v1/emails/{waiting}", lambda email: email["status"] == "queued")
    refused = await client.post(f"/v1/emails/{waiting}/retry")
    assert (refused.status_code, refused.json()["type"]) == (409, f"{TYPE}not-final")

    failed = await end_mail(gateway, client, ann="failed/rejected", bob="failed/rejected")
    path = f"/v1/emails/{failed}/retry"
    other = await mint(gateway.stack.database_url, account="other")
    assert (await client.post(path, headers=other.headers)).status_code == 404
    assert (await client.post(f"/v1/emails/{new_email_id()}/retry")).status_code == 404
    reader = await mint(gateway.stack.database_url, scopes=[ApiScope.EMAILS_READ], account="shop")
    assert (await client.post(path, headers=reader.headers)).status_code == 403
    stranger = await mint(gateway.stack.database_url, "*@elsewhere.org", account="shop")
    answer = await client.post(path, headers=stranger.headers)
    assert (answer.status_code, answer.json()["type"]) == (403, f"{TYPE}sender-not-allowed")
    tester = await mint(gateway.stack.database_url, account="shop", test=True)
    answer = await client.post(path, headers=tester.headers)
    assert (answer.status_code, answer.json()["type"]) == (403, f"{TYPE}test-key")
    wrong = await client.post(path, json={"include_unkown": True})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/include_unkown")
    assert (await client.post("/v1/emails/not-an-id/retry")).status_code == 422
    assert await find_retries(gateway.stack, failed) == []


async def test_a_filter_retries_what_it_means_page_by_page(gateway: Gateway, client: httpx.AsyncClient) -> None:
    tag = f"t{uuid4().hex[:8]}"
    fields = {"tags": [tag], "to": ["ann@x.org"]}
    rejected = [await end_mail(gateway, client, fields, ann="failed/rejected") for _ in range(3)]
    expired = await end_mail(gateway, client, fields, ann="failed/expired")
    unknown = await end_mail(gateway, client, fields, ann="unknown/unknown")
    await end_mail(gateway, client, fields, ann="sent")
    await end_mail(gateway, client, {"tags": ["another"], "to": ["ann@x.org"]}, ann="failed/rejected")

    wanted: dict[str, Any] = {"tag": tag, "reason": "rejected", "limit": 2}
    first = (await client.post("/v1/emails/retry", json=wanted)).json()
    assert (first["count"], [each["retry_of"] for each in first["retried"]]) == (
        2,
        [str(each) for each in rejected[:2]],
    )
    second = (await client.post("/v1/emails/retry", json=wanted | {"after": first["next"]})).json()
    assert [each["retry_of"] for each in second["retried"]] == [str(rejected[2])]
    assert "next" not in second or second["next"] is None
    for email_id in rejected:
        assert len(await find_retries(gateway.stack, email_id)) == 1

    rest = (await client.post("/v1/emails/retry", json={"tag": tag, "status": ["failed", "expired", "unknown"]})).json()
    assert [each["retry_of"] for each in rest["retried"]] == [str(expired)], "what was retried is passed over"
    assert [(each["id"], each["why"]) for each in rest["left_out"]] == [(str(unknown), "outcome-unknown")]
    doubtful = {"tag": tag, "status": ["unknown"], "include_unknown": True}
    assert (await client.post("/v1/emails/retry", json=doubtful)).json()["count"] == 1
    long_ago = {"tag": tag, "status": ["sent"]}
    assert (await client.post("/v1/emails/retry", json=long_ago)).status_code == 422
    assert (await client.post("/v1/emails/retry", json={"after": "?"})).json()["errors"][0]["pointer"] == "/after"


async def test_one_mail_of_a_bulk_event_is_retried_alone(gateway: Gateway, client: httpx.AsyncClient) -> None:
    ann, bob = new_email_id(), new_email_id()
    entries = [
        {"id": str(ann), "to": "ann@x.org", "variables": {"name": "Ann"}},
        {"id": str(bob), "to": "bob@x.org", "variables": {"name": "Bob"}},
    ]
    bulk = {"from": "a@example.com", "subject": "Hello {{ name }}", "text": "t", "account": "shop", "mails": entries}
    await publish_json(gateway.stack, bulk, headers=[("ce_type", b"email.bulk_requested")])
    await publish_result(gateway, ann, ann="sent")
    await publish_result(gateway, bob, bob="failed/rejected")
    await await_rest(client, bob, 1)
    answer = await client.post(f"/v1/emails/{bob}/retry")
    assert answer.status_code == 202, answer.text
    (mail,) = await find_retries(gateway.stack, bob)
    assert (mail.recipients, mail.subject, mail.variables) == (["bob@x.org"], "Hello {{ name }}", {"name": "Bob"})
    await await_rest(client, ann, 1)
    assert (await client.post(f"/v1/emails/{ann}/retry")).json()["type"] == f"{TYPE}nothing-to-retry"


async def test_the_routes_are_documented_with_their_problems(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    one = document["paths"]["/v1/emails/{email_id}/retry"]["post"]
    assert {"202", "401", "403", "404", "409", "413", "422", "503"} <= set(one["responses"])
    assert not one["requestBody"]["required"]
    many = document["paths"]["/v1/emails/retry"]["post"]
    schema = many["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    properties = document["components"]["schemas"][schema]["properties"]
    assert {"status", "since", "until", "tag", "mailing_id", "reason", "limit", "after"} <= set(properties)


async def test_a_mail_that_kafka_has_forgotten_cannot_be_retried(gateway: Gateway, client: httpx.AsyncClient) -> None:
    email_id = await end_mail(gateway, client, ann="failed/rejected", bob="failed/rejected")
    topic = gateway.stack.topics.requested
    records = await read_requests(gateway.stack)
    (record,) = [each for each in records if each.value and str(email_id).encode() in each.value]
    admin = AIOKafkaAdminClient(bootstrap_servers=gateway.stack.bootstrap_servers)
    await admin.start()
    try:
        place = TopicPartition(topic, record.partition)
        await admin.delete_records({place: RecordsToDelete(before_offset=record.offset + 1)})
    finally:
        await admin.close()
    answer = await client.post(f"/v1/emails/{email_id}/retry")
    assert (answer.status_code, answer.json()["type"]) == (409, f"{TYPE}aged-out")
    still = await end_mail(gateway, client, ann="failed/rejected", bob="failed/rejected")
    assert (await client.post(f"/v1/emails/{still}/retry")).status_code == 202, "later records are there"
