"""A batch on its whole way, followed live: API, scheduler's worker, sender and relay as processes."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer

from shared.events import read_header
from tests.integration.test_sender_path import start_sender
from tests.support.following import Follower, write_lines
from tests.support.gateway import Caller, mint, poll
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.smtp import Script, SmtpServer, run_smtp
from tests.support.stack import Stack

COUNT = 300
CONTENT = {"from": "shop@example.com", "subject": "Hello {{ name }}", "text": "Hello {{ name }}."}


@pytest.fixture
async def relay() -> AsyncIterator[SmtpServer]:
    """It takes its time, so that a batch is still on its way when it is looked at."""
    async with run_smtp(Script(dot_delay_s=0.05)) as relay:
        yield relay


async def upload(client: httpx.AsyncClient, count: int) -> Any:
    mails = [{**CONTENT, "to": [f"r{n}@example.org"], "variables": {"name": str(n)}} for n in range(count)]
    response = await client.post(
        "/v1/batches", content=write_lines(mails), headers={"content-type": "application/x-ndjson"}
    )
    assert response.status_code == 202, response.text
    return response.json()


async def test_a_batch_is_followed_from_nothing_to_its_end_through_a_restart(
    services: ServiceRunner, stack: Stack, relay: SmtpServer
) -> None:
    api, worker = (services.start("services.scheduler", command) for command in ("api", "worker"))
    start_sender(services, stack, relay.port)
    await asyncio.gather(api.wait_ready(), worker.wait_ready())
    caller: Caller = await mint(stack.database_url)
    async with httpx.AsyncClient(base_url=api.url, headers=caller.headers, timeout=30) as client:
        batch = await upload(client, COUNT)
        follower, viewer = Follower(api.url, caller.headers), Follower(api.url, caller.headers)
        following = asyncio.gather(*(each.follow(batch["links"]["events"]) for each in (follower, viewer)))
        path = batch["links"]["self"]
        await poll(client, path, lambda view: 0 < view["percent"] < 100)
        await client.post(f"{path}/pause")
        await _restart(api, worker)
        assert (await client.get(path)).json()["state"] == "paused"
        assert not following.done()
        await client.post(f"{path}/resume")
        await asyncio.wait_for(following, 60)
        listed = (await client.get(batch["links"]["items"], params={"limit": COUNT, "state": "sent"})).json()["data"]
        over = await client.get(batch["links"]["events"], headers={"Last-Event-ID": follower.messages[-1]["id"]})
        async with client.stream("GET", batch["links"]["events"]) as answer:
            told = [line async for line in answer.aiter_lines()]
    facts = await read_facts(stack, "batch_id", batch["id"])

    assert [item["number"] for item in listed] == list(range(1, COUNT + 1))
    assert len(relay.taken) == COUNT
    assert len({each.recipients for each in relay.taken}) == COUNT
    for each in (follower, viewer):
        assert each.connections >= 2
        assert each.percents == sorted(each.percents)
        assert (each.percents[0] < 100, each.percents[-1], each.close_code) == (True, 100.0, 1000)
        assert len({message["id"] for message in each.messages}) == len(each.messages)
        assert each.messages[-1]["data"]["counts"]["sent"] == COUNT
    assert over.status_code == 204
    assert [(kind, fact["batch_id"], fact["counts"]["sent"]) for kind, fact in facts] == [
        ("batch.finished", batch["id"], COUNT)
    ]
    assert "event: batch.finished" in told
    assert json.loads(next(line for line in told if line.startswith("data: "))[6:])["percent"] == 100


async def read_facts(stack: Stack, name: str, value: str) -> list[tuple[str | None, Any]]:
    """All that lies on schedule.tick, by type, once something of it has this value: it is told a moment after it can be
    seen. What comes within half a second more is read, too."""
    consumer = AIOKafkaConsumer(
        stack.topics.tick, bootstrap_servers=stack.bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        facts: list[tuple[str | None, Any]] = []
        async with asyncio.timeout(10):
            while True:
                fetched = await consumer.getmany(timeout_ms=500)
                for record in (record for records in fetched.values() for record in records):
                    facts.append((read_header(record.headers, "ce_type"), json.loads(record.value)))
                if not fetched and any(fact.get(name) == value for _, fact in facts):
                    return facts
    finally:
        await consumer.stop()


async def _restart(*processes: ServiceProcess) -> None:
    for each in processes:
        each.kill()
    for each in processes:
        each.restart()
    await asyncio.gather(*(each.wait_ready() for each in processes))
