"""A broker that falls silent while mails come in, or is killed: on servers of this module's own."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy.local.children import wait_until
from tests.support.gateway import FULL, Caller, mint, read_requests, serve_gateway
from tests.support.outage import frozen
from tests.support.servers import RealServers, run_apart
from tests.support.services import ServiceProcess
from tests.support.stack import Stack

MIB = 1024 * 1024
ROOM = 6 * MIB


@dataclass(frozen=True)
class Gateway:
    """An API process with little room for bodies, a caller, and the broker's process."""

    stack: Stack
    process: ServiceProcess
    caller: Caller
    broker: int


@pytest.fixture(scope="module")
def servers() -> Iterator[RealServers]:
    servers = RealServers()
    try:
        yield servers
    finally:
        servers.stop()


@pytest.fixture(scope="module")
def gateway(servers: RealServers) -> Iterator[Gateway]:
    with serve_gateway(servers, "api", env={"MILENA_HTTP_BYTES_IN_FLIGHT": str(ROOM)}) as (stack, (process,)):
        broker = servers.kafka().pid
        assert broker is not None
        yield Gateway(stack, process, run_apart(mint(stack.database_url)), broker)


async def test_one_outcome_is_unknown_and_then_mails_are_refused(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.process.url, timeout=30, headers=gateway.caller.headers) as client:
        assert (await client.post("/v1/emails", json=FULL)).status_code == 202
        with frozen(gateway.broker):
            began = time.monotonic()
            unknown, batch = await asyncio.gather(
                client.post("/v1/emails", json=FULL),
                client.post("/v1/emails/batch", json={"emails": [FULL] * 20}),
            )
            waited_s = time.monotonic() - began
            refused = await client.post("/v1/emails", json=FULL)
            refused_after_s = time.monotonic() - began - waited_s
        assert unknown.status_code == refused.status_code == 503
        assert unknown.json()["outcome"] == "unknown"
        assert (batch.status_code, batch.json()["outcome"]) == (503, "unknown")
        assert 4.5 < waited_s < 7
        assert refused.json()["outcome"] == "refused"
        assert refused_after_s < 1
        await wait_until_accepted(client)
        published = [record.key.decode() for record in await read_requests(gateway.stack)]
        assert published.count(unknown.json()["id"]) == 1  # the producer never gives a batch up
        told = [each["problem"]["id"] for each in batch.json()["results"]]
        assert [published.count(each) for each in told] == [1] * 20
        assert len(published) == 23


async def test_memory_stays_bounded_whatever_is_posted_meanwhile(gateway: Gateway) -> None:
    body = json.dumps({**FULL, "text": os.urandom(MIB // 2 - 2000).hex()}).encode()
    process = psutil.Process(gateway.process.pid)
    before = highest = process.memory_info().rss
    with frozen(gateway.broker):
        posts = [asyncio.create_task(post(gateway, body)) for _ in range(80)]
        async with asyncio.timeout(60):  # until only those are left that fit; they wait for Kafka
            while sum(not each.done() for each in posts) > ROOM / len(body):
                await asyncio.sleep(0.02)
                highest = max(highest, process.memory_info().rss)
        async with httpx.AsyncClient(base_url=gateway.process.url) as client:
            assert (await client.get("/healthz")).status_code == 200
            metrics = (await client.get("/metrics")).text
        answers = [each.result() for each in posts if each.done()]
        for each in posts:
            each.cancel()
        await asyncio.gather(*posts, return_exceptions=True)
    assert {status for status, _ in answers} == {503}
    shed = [kind for _, kind in answers if kind == "/problems/overloaded"]
    assert len(shed) >= 40
    assert read_metric(metrics, 'milena_requests_shed_total{why="bytes"}') >= len(shed)
    assert highest - before < 8 * ROOM, "80 bodies of 1 MiB at once would be some 350"


async def test_a_killed_broker_comes_back_with_all_it_has_acknowledged(servers: RealServers, gateway: Gateway) -> None:
    kafka, topic = servers.kafka(), gateway.stack.topics.sent
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all") as producer:
        for number in range(20):
            await producer.send_and_wait(topic, str(number).encode())
    os.kill(gateway.broker, signal.SIGKILL)
    assert wait_until(lambda: not kafka.is_running(), timeout_s=5)
    kafka.start()
    kafka.wait_until_ready()
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
    async with consumer:
        found = {(await consumer.getone()).value for _ in range(20)}
    assert found == {str(number).encode() for number in range(20)}


def read_metric(page: str, name: str) -> float:
    return float(page.partition(f"\n{name} ")[2].partition("\n")[0])


async def post(gateway: Gateway, body: bytes) -> tuple[int, str]:
    """Status and problem type."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.process.port)
    try:
        authorization = gateway.caller.headers["Authorization"].encode()
        writer.write(
            b"POST /v1/emails HTTP/1.1\r\nhost: x\r\nauthorization: %b\r\ncontent-type: application/json\r\n"
            % authorization
        )
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(head[9:12]), json.loads(await reader.readexactly(length))["type"]
    finally:
        writer.close()


async def wait_until_accepted(client: httpx.AsyncClient) -> None:
    for _ in range(60):
        answer = await client.post("/v1/emails", json=FULL)
        if answer.status_code == 202:
            return
        assert answer.json()["outcome"] == "refused", answer.text
        await asyncio.sleep(0.5)
    raise AssertionError("Kafka is back, and mails are still refused")
