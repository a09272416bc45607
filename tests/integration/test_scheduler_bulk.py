"""Bulk mail's whole path on real parts: taken in, handed out in the window, sent, its results counted (R2)."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.pacing.lanes import LaneKey, LaneKind, LaneReport
from services.scheduler.pacing.states import BulkState
from shared.database import Database
from tests.support.records import TopicReader, publish
from tests.support.servers import RealServers, run_apart
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.smtp import Script, SmtpServer, run_smtp_apart
from tests.support.stack import Stack

CONTENT = {"from": "shop@example.com", "subject": "Hello {{ n }}", "text": "Dear {{ n }}", "priority": "bulk"}
LEASE_S = 2


@dataclass(frozen=True)
class World:
    """A scheduler, a sender, and a relay that takes 10 ms for every mail, for all tests here."""

    stack: Stack
    runner: ServiceRunner
    scheduler: ServiceProcess
    relay: SmtpServer


def answer(step: str, argument: str) -> str | None:
    return "550 5.1.1 no such user" if step == "rcpt" and argument.startswith("nobody") else None


@pytest.fixture(scope="module")
def world(real_servers: RealServers) -> Iterator[World]:
    prefix, database = real_servers.create_topics(), real_servers.create_database()
    stack = Stack(real_servers.bootstrap_servers(), prefix, real_servers.postgres().database_url(database))
    runner = ServiceRunner({**stack.env(), "MILENA_RELEASE_LEASE_S": str(LEASE_S)}, preloaded=True)
    script = Script(answer, delay=lambda step, _: 0.01 if step == "dot" else 0.0)
    try:
        with run_smtp_apart(script) as relay:
            scheduler = runner.start("services.scheduler", "worker")
            sender = runner.start("services.sender", "worker", env={"MILENA_SMTP_PORT": str(relay.port)})
            for process in (scheduler, sender):
                run_apart(process.wait_ready(60))
            yield World(stack, runner, scheduler, relay)
            runner.stop_all()
    finally:
        runner.stop_all()
        real_servers.drop_database(database)
        real_servers.drop_topics(prefix)


@pytest.fixture
async def database(world: World) -> AsyncIterator[Database]:
    database = Database(world.stack.database_url)
    yield database
    await database.close()


def make_bulk(count: int, name: str, **fields: Any) -> dict[str, Any]:
    mails = [{"to": f"{name}{n}@example.org", "variables": {"n": n}} for n in range(count)]
    return {**CONTENT, "bulk_id": str(uuid4()), "batch_id": name, "mails": mails, **fields}


def batch(name: str, account: str = "default") -> LaneKey:
    return LaneKey(account, LaneKind.BATCH, name)


async def wait_lane(database: Database, lane: LaneKey, count: int, timeout_s: float = 60) -> LaneReport:
    """Until so many mails of the lane have ended."""
    store, deadline = BulkStore(database), time.monotonic() + timeout_s
    while True:
        found = await store.report(lane)
        if found and found.total - found.open >= count:
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


async def wait_empty(database: Database) -> None:
    for _ in range(200):
        rows = await database.fetch("SELECT in_flight FROM scheduler.bulk_window")
        groups = await database.fetch("SELECT FROM scheduler.bulk_group")
        if rows[0]["in_flight"] == 0 and not groups:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("mails are still in the window")


def count_taken(world: World, *names: str) -> Counter[str]:
    """How often the relay has taken mail for each address that begins so."""
    taken = list(world.relay.taken)
    return Counter(address for each in taken for address in each.recipients if address.startswith(names))


async def test_every_bulk_mail_is_sent_once_and_counted(world: World, database: Database) -> None:
    topics = world.stack.topics
    single = {**CONTENT, "text": "{{ as it stands }}", "batch_id": "mixed"}
    many = {"to": ["copy-a@example.org", "copy-b@example.org"], "cc": ["copy-c@example.org"]}
    async with TopicReader(world.stack.bootstrap_servers, topics.requested) as reader:
        await publish(
            world.stack.bootstrap_servers,
            topics.requested,
            make_bulk(150, "mixed"),
            make_bulk(3, "nobody", batch_id="mixed"),
            *({**single, "to": f"plain{n}@example.org"} for n in range(20)),
            {**single, **many},
        )
        lane = await wait_lane(database, batch("mixed"), 174)
        handed = [each for each in reader.seen if each.headers.get("ce_source") == "/milena/scheduler"]
    assert {state: count for state, count in lane.counts.items() if count} == {
        BulkState.SENT: 171,
        BulkState.FAILED: 3,
    }
    taken = count_taken(world, "mixed", "plain", "copy", "nobody")
    assert (len(taken), set(taken.values())) == (173, {1})
    plain = next(each.message for each in world.relay.taken if each.recipients[0].startswith("plain"))
    assert (plain["Subject"], plain.get_content().strip()) == ("Hello {{ n }}", "{{ as it stands }}")
    bulks = [len(each.data["mails"]) for each in handed if "mails" in each.data]
    assert bulks
    assert max(bulks) <= 100
    assert not any({"priority", "send_at"} & set(each.data) for each in handed)
    await wait_empty(database)


async def test_accounts_share_the_window_and_a_pause_holds_within_a_second(world: World, database: Database) -> None:
    store = BulkStore(database)
    first = [make_bulk(500, "first", bulk_id=str(uuid4())) for _ in range(4)]
    await publish(world.stack.bootstrap_servers, world.stack.topics.requested, *first)
    await wait_lane(database, batch("first"), 100)
    late = make_bulk(100, "late", account="club")
    await publish(world.stack.bootstrap_servers, world.stack.topics.requested, late)
    await wait_lane(database, batch("late", "club"), 100)
    lane = await store.report(batch("first"))
    assert lane
    assert lane.counts[BulkState.PENDING] > 500
    assert await store.pause(batch("first"))
    [paused] = await database.fetch("SELECT now() AS at")
    await wait_empty(database)
    await asyncio.sleep(1)
    [last] = await database.fetch("SELECT max(handed_at) AS at FROM scheduler.bulk_mail")
    assert (last["at"] - paused["at"]).total_seconds() < 1
    held = await store.report(batch("first"))
    assert held
    assert held.counts[BulkState.PENDING] > 0
    assert held.counts[BulkState.QUEUED] == 0
    assert await store.cancel(batch("first"))
    ended = await wait_lane(database, batch("first"), 2000)
    assert ended.counts[BulkState.CANCELLED] == held.counts[BulkState.PENDING]
    assert ended.counts[BulkState.SENT] == count_taken(world, "first").total()
    await wait_empty(database)


async def test_a_scheduler_killed_between_hand_out_and_publish_loses_and_doubles_nothing(
    world: World, database: Database
) -> None:
    world.scheduler.stop()
    dying = world.runner.start(
        "services.scheduler", "worker", env={"MILENA_TEST_FAILPOINTS": "database.answered[AS free FROM]=kill@1"}
    )
    await publish(world.stack.bootstrap_servers, world.stack.topics.requested, make_bulk(400, "killed"))
    assert await dying.wait_exit(60) == -9
    [left] = await database.fetch("SELECT count(*) AS groups FROM scheduler.bulk_group WHERE kind = 'release'")
    assert left["groups"] == 1
    world.scheduler.restart()
    lane = await wait_lane(database, batch("killed"), 400)
    assert lane.counts[BulkState.SENT] == 400
    assert set(count_taken(world, "killed").values()) == {1}
    await wait_empty(database)


async def test_the_end_of_a_cancelled_lane_is_told_mail_by_mail(world: World, database: Database) -> None:
    topics, store = world.stack.topics, BulkStore(database)
    lane = batch("stopped", "club")
    await store.open_lanes([lane], paused=True)
    ids = [str(uuid4()) for _ in range(3)]
    mails = [{"id": each, "to": "a@example.org", "variables": {"n": 1}, "metadata": {"row": 1}} for each in ids]
    async with TopicReader(world.stack.bootstrap_servers, topics.failed) as reader:
        await publish(
            world.stack.bootstrap_servers,
            topics.requested,
            {**CONTENT, "batch_id": "stopped", "account": "club", "mails": mails, "tags": ["t"]},
        )
        for _ in range(200):
            report = await store.report(lane)
            if report and report.total == 3:
                break
            await asyncio.sleep(0.05)
        await publish(
            world.stack.bootstrap_servers, topics.requested, {"id": ids[0], "cancel": True, "account": "club"}
        )
        [one] = await reader.wait_for(lambda each: each.data.get("id") in ids)
        assert await store.cancel(lane)
        told = await reader.wait_for(lambda each: each.data.get("id") in ids, 3)
    assert one.data["id"] == ids[0]
    assert {UUID(each.data["id"]) for each in told} == set(map(UUID, ids))
    for each in told:
        assert (each.data["reason"], each.data["complete"], each.data["account"]) == ("cancelled", True, "club")
        assert (each.data["batch_id"], each.data["tags"], each.data["metadata"]) == ("stopped", ["t"], {"row": 1})
        assert orjson.dumps(each.data["outcomes"])
