"""A mail that somebody wants stopped is cancelled or sent: never both, never neither (R7).

Judged at the SMTP sink and on the result topics; what the cancelling request answered is no evidence.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaProducer

from shared.database import Database
from tests.support.gateway import Caller, mint, poll, serve_gateway
from tests.support.records import TopicReader
from tests.support.servers import RealServers, run_apart
from tests.support.services import ServiceRunner
from tests.support.smtp import Script, SmtpServer, run_smtp_apart
from tests.support.stack import Stack

MAIL = {"from": "shop@example.com", "to": ["ann@example.org"], "subject": "s", "text": "t"}

_AT_DOT = {"lost@example.org": "DROP", "later@example.org": "451 4.3.0 try later"}


@dataclass
class Sink:
    """A relay that lives as long as the module, in a thread of its own."""

    server: SmtpServer
    refused: set[str] = field(default_factory=set)
    next_dot: str | None = None

    def copies(self, email_id: UUID) -> int:
        """How often the relay has taken this mail."""
        return sum(str(email_id) in str(each.message["Message-ID"]) for each in list(self.server.taken))


@contextmanager
def run_sink() -> Iterator[Sink]:
    """Mail to busy…@ is put off at its first try, that to the addresses in _AT_DOT is answered so, once."""
    found: list[Sink] = []

    def answer(step: str, argument: str) -> str | None:
        sink = found[0]
        if step == "rcpt" and argument.startswith("busy") and argument not in sink.refused:
            sink.refused.add(argument)
            return "450 4.2.1 mailbox busy"
        if step == "rcpt" and argument in _AT_DOT and argument not in sink.refused:
            sink.refused.add(argument)
            sink.next_dot = _AT_DOT[argument]
        if step == "dot":
            said, sink.next_dot = sink.next_dot, None
            return said
        return None

    with run_smtp_apart(Script(answer)) as server:
        found.append(Sink(server))
        yield found[0]


@dataclass(frozen=True)
class World:
    """Gateway, scheduler and sender as processes, and a relay, for all tests here."""

    stack: Stack
    url: str
    caller: Caller
    sink: Sink


@pytest.fixture(scope="module")
def world(real_servers: RealServers) -> Iterator[World]:
    with serve_gateway(real_servers, "api", "worker") as (stack, (api, _worker)), run_sink() as sink:
        runner = ServiceRunner(stack.env(), preloaded=True)
        relay = {"MILENA_SMTP_PORT": str(sink.server.port), "MILENA_RETRY_DELAYS": "600"}
        try:
            started = [
                runner.start("services.scheduler", "worker"),
                runner.start("services.sender", "worker", env=relay),
            ]
            for process in started:
                run_apart(process.wait_ready(60))
            yield World(stack, api.url, run_apart(mint(stack.database_url)), sink)
        finally:
            runner.stop_all()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=world.url, timeout=30, headers=world.caller.headers) as client:
        yield client


@pytest.fixture
async def results(world: World) -> AsyncIterator[TopicReader]:
    topics = world.stack.topics
    async with TopicReader(world.stack.bootstrap_servers, topics.sent, topics.failed) as reader:
        yield reader


@pytest.fixture
async def producer(world: World) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=world.stack.bootstrap_servers, acks="all")
    await producer.start()
    yield producer
    await producer.stop()


async def publish(world: World, producer: AIOKafkaProducer, email_id: UUID, **data: Any) -> None:
    """An event of this mail under its key, so that its events lie in one partition, in order."""
    value = orjson.dumps({**data, "id": str(email_id)})
    await producer.send_and_wait(world.stack.topics.requested, value, key=str(email_id).encode())


async def post(client: httpx.AsyncClient, **fields: Any) -> UUID:
    answer = await client.post("/v1/emails", json=MAIL | fields)
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["id"])


async def cancel(client: httpx.AsyncClient, email_id: UUID) -> int:
    return (await client.post(f"/v1/emails/{email_id}/cancel")).status_code


async def wait_status(client: httpx.AsyncClient, email_id: UUID, status: str, timeout_s: float = 15) -> None:
    await poll(client, f"/v1/emails/{email_id}", lambda email: email["status"] == status, timeout_s)


def in_s(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def judge(world: World, results: TopicReader, email_id: UUID, timeout_s: float = 20) -> str:
    """How the mail ended, from outside: `sent` or `cancelled`, and that it is one of them alone."""
    mine = [each for each in await wait_end(results, email_id, timeout_s) if each["id"] == str(email_id)]
    ends = {orjson.dumps(each["outcomes"]) for each in mine if each.get("complete")}
    assert len(ends) == 1, "two different ends"
    sent = any("relay" in each for each in mine)
    cancelled = any(each.get("reason") == "cancelled" for each in mine)
    assert sent != cancelled, mine
    assert world.sink.copies(email_id) == (1 if sent else 0), mine
    return "sent" if sent else "cancelled"


async def wait_end(results: TopicReader, email_id: UUID, timeout_s: float) -> list[dict[str, Any]]:
    await results.wait_for(
        lambda each: each.data.get("id") == str(email_id) and bool(each.data.get("complete")), timeout_s=timeout_s
    )
    return [each.data for each in results.seen]


async def wait_kept(world: World, email_id: UUID) -> None:
    """Both who may hold a mail have read the wish."""
    database = Database(world.stack.database_url, pool_size=1)
    try:
        for _ in range(500):
            if await database.fetch(
                "SELECT 1 FROM sender.cancellation JOIN scheduler.cancellation USING (id) WHERE id = $1", email_id
            ):
                return
            await asyncio.sleep(0.02)
    finally:
        await database.close()
    raise AssertionError("the cancellation never was kept")


async def test_cancelled_before_anybody_has_seen_it(
    world: World, client: httpx.AsyncClient, results: TopicReader, producer: AIOKafkaProducer
) -> None:
    plain, delayed = uuid4(), uuid4()
    for email_id in (plain, delayed):
        assert await cancel(client, email_id) == 202
        await wait_kept(world, email_id)
    await publish(world, producer, plain, **MAIL)
    await publish(world, producer, delayed, **MAIL, send_at=in_s(1))
    for email_id in (plain, delayed):
        assert await judge(world, results, email_id) == "cancelled"
        await wait_status(client, email_id, "cancelled")


async def test_a_wish_right_before_its_mail_in_the_partition_takes_effect(
    world: World, results: TopicReader, producer: AIOKafkaProducer
) -> None:
    """Nobody waits in between: who takes both records at once must still honour their order."""
    ids = [uuid4() for _ in range(60)]
    sends = []
    for n, email_id in enumerate(ids):
        key = str(email_id).encode()
        mail = MAIL | ({"send_at": in_s(0.5)} if n % 3 == 0 else {})
        for data in ({"cancel": True}, mail):
            value = orjson.dumps({**data, "id": str(email_id)})
            sends.append(await producer.send(world.stack.topics.requested, value, key=key))
    await asyncio.gather(*sends)
    ends = [await judge(world, results, email_id) for email_id in ids]
    assert ends == ["cancelled"] * len(ids)


async def test_cancelled_while_the_scheduler_holds_it(
    world: World, client: httpx.AsyncClient, results: TopicReader
) -> None:
    email_id = await post(client, send_at=in_s(3))
    await wait_status(client, email_id, "scheduled")
    assert await cancel(client, email_id) == 202
    await wait_status(client, email_id, "cancelled", timeout_s=2.5)
    await asyncio.sleep(3)  # past its time: it must not leave all the same
    assert await judge(world, results, email_id) == "cancelled"
    assert await cancel(client, email_id) == 409


async def test_cancelled_while_it_waits_for_its_next_attempt(
    world: World, client: httpx.AsyncClient, results: TopicReader
) -> None:
    """The next attempt would be in ten minutes; the answer to the wish does not wait for it."""
    email_id = await post(client, to=[f"busy.{uuid4().hex}@example.org"])
    await wait_status(client, email_id, "deferred")
    assert await cancel(client, email_id) == 202
    await wait_status(client, email_id, "cancelled")
    assert await judge(world, results, email_id) == "cancelled"


async def test_what_some_have_got_is_cancelled_for_the_others(
    world: World, client: httpx.AsyncClient, results: TopicReader
) -> None:
    busy = f"busy.{uuid4().hex}@example.org"
    email_id = await post(client, to=["ann@example.org", busy])
    await wait_status(client, email_id, "deferred")
    assert await cancel(client, email_id) == 202
    await wait_status(client, email_id, "partially_sent")
    (end,) = [each for each in await wait_end(results, email_id, 5) if each["id"] == str(email_id) and each["complete"]]
    assert {each["address"]: each["state"] for each in end["outcomes"]} == {"ann@example.org": "sent", busy: "failed"}
    assert [each.recipients for each in world.sink.server.taken if str(email_id) in each.message["Message-ID"]] == [
        ("ann@example.org",)
    ]


async def test_on_the_wire_it_is_too_late_and_the_timeline_says_so(
    world: World, client: httpx.AsyncClient, results: TopicReader
) -> None:
    world.sink.server.script.dot_delay_s = 2.0
    try:
        address = f"slow.{uuid4().hex}@example.org"
        email_id = await post(client, to=[address])
        async with asyncio.timeout(10):
            while not any(address in command for command in list(world.sink.server.commands)):
                await asyncio.sleep(0.02)
        assert await cancel(client, email_id) == 202
        await wait_kept(world, email_id)
        assert world.sink.copies(email_id) == 0, "the relay holds the final dot"
        assert await judge(world, results, email_id) == "sent"
    finally:
        world.sink.server.script.dot_delay_s = 0.0
    await wait_status(client, email_id, "sent")
    timeline = (await client.get(f"/v1/emails/{email_id}/events")).json()
    assert "email.cancellation_requested" in [each["type"] for each in timeline["events"]]


async def test_a_wish_that_came_while_on_the_wire_is_answered_when_the_mail_is_put_off(
    world: World, client: httpx.AsyncClient, results: TopicReader
) -> None:
    world.sink.server.script.dot_delay_s = 1.0
    try:
        email_id = await post(client, to=["later@example.org"])
        await asyncio.sleep(0.4)
        assert await cancel(client, email_id) == 202
        await wait_kept(world, email_id)
        assert await judge(world, results, email_id, timeout_s=5) == "cancelled"
    finally:
        world.sink.server.script.dot_delay_s = 0.0


async def test_after_it_was_sent_a_wish_changes_nothing(
    world: World, client: httpx.AsyncClient, results: TopicReader, producer: AIOKafkaProducer
) -> None:
    email_id = await post(client)
    await wait_status(client, email_id, "sent")
    assert await cancel(client, email_id) == 409
    await publish(world, producer, email_id, cancel=True)
    await wait_kept(world, email_id)
    await publish(world, producer, email_id, **MAIL)  # delivered again, as after a crash
    await asyncio.sleep(1)
    assert await judge(world, results, email_id) == "sent"
    await wait_status(client, email_id, "sent")


async def test_what_the_relay_may_have_taken_is_not_called_cancelled(
    world: World, client: httpx.AsyncClient, results: TopicReader
) -> None:
    """The relay's answer was lost, so nobody can know: it is not sent again, and waits as unknown (P6)."""
    world.sink.server.script.dot_delay_s = 2.0  # unknown mail is sent again at once: the wish is to be there before
    try:
        email_id = await post(client, to=["lost@example.org"])
        async with asyncio.timeout(10):
            while not any("lost@example.org" in command for command in list(world.sink.server.commands)):
                await asyncio.sleep(0.02)
        assert await cancel(client, email_id) == 202
        await wait_kept(world, email_id)
        assert world.sink.copies(email_id) == 0, "the relay holds the final dot"
    finally:
        world.sink.server.script.dot_delay_s = 0.0
    await wait_status(client, email_id, "unknown")
    mine = [each.data for each in results.seen if each.data.get("id") == str(email_id)]
    assert not any(each.get("reason") == "cancelled" for each in mine), mine
    assert world.sink.copies(email_id) == 1


async def test_wishes_at_any_moment_leave_every_mail_with_one_end(
    world: World, client: httpx.AsyncClient, results: TopicReader, producer: AIOKafkaProducer
) -> None:
    """Plain and delayed mail, cancelled at random around release and sending, over HTTP and on the topic."""
    dice = random.Random(20)

    async def live(n: int) -> UUID:
        delay = 2 + dice.random()
        around = (delay - 0.6, delay + 0.2) if n % 4 == 1 else (0, delay)
        email_id = await post(client, **({"send_at": in_s(delay)} if n % 2 else {}))
        await asyncio.sleep(dice.uniform(*around) if n % 2 else dice.uniform(0, 0.05))
        if n % 3:
            await cancel(client, email_id)
        else:
            await publish(world, producer, email_id, cancel=True)
        return email_id

    world.sink.server.script.dot_delay_s = 0.02
    began = time.monotonic()
    ids = await asyncio.gather(*(live(n) for n in range(60)))
    await asyncio.sleep(1)
    ends = [await judge(world, results, email_id) for email_id in ids]
    world.sink.server.script.dot_delay_s = 0.0
    print(f"sent {ends.count('sent')}, cancelled {ends.count('cancelled')}, {time.monotonic() - began:.1f} s")
    assert set(ends) == {"sent", "cancelled"}, "the race was none"
    for email_id, end in zip(ids, ends, strict=True):
        await wait_status(client, email_id, end)
