"""The callback worker as a process, on real Kafka and PostgreSQL, with a real HTTP receiver."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from shared.access import derive_webhook_secret
from shared.database import Database
from tests.support.outage import DatabaseProxy
from tests.support.records import publish
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.stack import MASTER_SECRET, Stack

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


class Receiver:
    """An application's endpoint: records raw requests, answers a path with the statuses it was told, then 204."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: dict[str, list[int | Callable[[], Awaitable[web.StreamResponse]]]] = defaultdict(list)
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((request.raw_path, {k.lower(): v for k, v in request.headers.items()}, body))
        answers = self.answers[request.path]
        answer = answers.pop(0) if answers else 204
        if callable(answer):
            return await answer()
        headers = {"Location": f"{self.url}/elsewhere"} if 300 <= answer < 400 else {}
        return web.Response(status=answer, headers=headers, text="" if answer == 204 else f"answer {answer}")

    async def wait_for(self, count: int, timeout_s: float = 15) -> None:
        for _ in range(int(timeout_s / 0.02)):
            if len(self.requests) >= count:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{count} requests wanted, got {[path for path, _, _ in self.requests]}")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[Database]:
    database = Database(stack.database_url)
    yield database
    await database.close()


async def start_worker(services: ServiceRunner, **env: str) -> ServiceProcess:
    env = {"MILENA_CALLBACK_RETRY_DELAYS_S": "0.5,0.5,0.5"} | env
    worker = services.start("services.callback", "worker", env=env)
    await worker.wait_ready()
    return worker


def build_sent(callback: str | dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "attempt": 1,
        "recipients": ["b@y.org"],
        "message_id": "<m@x.org>",
        "relay": "relay",
        "response": "250 2.0.0 Ok: queued as 4",
        "sent_at": "2026-05-01T12:00:00.000Z",
        "outstanding": 0,
        "complete": True,
        "outcomes": [{"address": "b@y.org", "state": "sent", "attempt": 1}],
        "account": "shop",
        "callback": callback,
    } | fields


def build_headers(event_type: str = "email.sent", event_id: UUID | None = None) -> dict[str, str]:
    return {
        "ce_specversion": "1.0",
        "ce_id": str(event_id or uuid4()),
        "ce_type": event_type,
        "ce_source": "test",
        "ce_time": "2026-05-01T12:00:01.000Z",
        "content-type": "application/json",
        "traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01",
    }


async def read_delivery(database: Database, email_id: str) -> tuple[asyncpg.Record, list[asyncpg.Record]]:
    (delivery,) = await database.fetch("SELECT * FROM callback.delivery WHERE email_id = $1", UUID(email_id))
    attempts = await database.fetch(
        "SELECT * FROM callback.attempt WHERE delivery_id = $1 ORDER BY number", delivery["id"]
    )
    return delivery, attempts


async def wait_for_state(database: Database, email_id: str, state: str) -> tuple[asyncpg.Record, list[asyncpg.Record]]:
    found: Any = None
    for _ in range(500):
        if await database.fetch("SELECT 1 FROM callback.delivery WHERE email_id = $1", UUID(email_id)):
            found = await read_delivery(database, email_id)
            if found[0]["state"] == state:
                return found[0], found[1]
        await asyncio.sleep(0.02)
    raise AssertionError(f"never {state}: {found}")


async def test_a_result_published_three_times_is_told_once_signed_and_with_its_query_kept(
    stack: Stack, services: ServiceRunner, receiver: Receiver, database: Database
) -> None:
    path = "/send-email/callback/?checkout-id=12&b=%7e%2F+x&empty=&q='(a)'"
    event = build_sent(receiver.url + path)
    headers = build_headers()
    await publish(stack.bootstrap_servers, stack.topics.sent, event, event, headers=headers)
    await start_worker(services)
    await receiver.wait_for(1)
    await publish(stack.bootstrap_servers, stack.topics.sent, event, headers=headers)
    delivery, attempts = await wait_for_state(database, event["id"], "delivered")
    await asyncio.sleep(1)
    ((raw_path, seen, body),) = receiver.requests
    assert raw_path == path
    assert Webhook(derive_webhook_secret(MASTER_SECRET, "shop")).verify(body, seen) == {
        "type": "email.sent",
        "timestamp": "2026-05-01T12:00:01.000Z",
        "data": event,
    }
    assert seen["webhook-id"] == headers["ce_id"]
    assert seen["content-type"] == "application/json"
    assert seen["traceparent"].split("-")[1] == TRACE_ID
    assert seen["traceparent"] != headers["traceparent"]
    assert [(row["number"], row["status"], row["error"]) for row in attempts] == [(1, 204, None)]
    assert delivery["finished_at"] is not None


async def test_a_receiver_that_fails_at_first_is_tried_again_and_every_attempt_is_kept(
    stack: Stack, services: ServiceRunner, receiver: Receiver, database: Database
) -> None:
    receiver.answers["/flaky"] = [503, 302]
    event = build_sent(f"{receiver.url}/flaky")
    await start_worker(services)
    await publish(stack.bootstrap_servers, stack.topics.sent, event, headers=build_headers())
    _, attempts = await wait_for_state(database, event["id"], "delivered")
    assert [row["status"] for row in attempts] == [503, 302, 204]
    assert attempts[0]["response"] == "answer 503"
    gaps = [(b["started_at"] - a["started_at"]).total_seconds() for a, b in pairwise(attempts)]
    assert all(0.5 <= gap < 1.5 for gap in gaps)
    assert {path for path, _, _ in receiver.requests} == {"/flaky"}
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 1


async def test_after_the_last_attempt_and_at_410_a_delivery_has_failed(
    stack: Stack, services: ServiceRunner, receiver: Receiver, database: Database
) -> None:
    receiver.answers["/broken"] = [500] * 9
    receiver.answers["/gone"] = [410]
    broken, gone = build_sent(f"{receiver.url}/broken"), build_sent(f"{receiver.url}/gone")
    nobody = build_sent("http://127.0.0.1:1/")
    await start_worker(services, MILENA_CALLBACK_RETRY_DELAYS_S="0.2")
    for event in (broken, gone, nobody):
        await publish(stack.bootstrap_servers, stack.topics.sent, event, headers=build_headers())
    _, attempts = await wait_for_state(database, broken["id"], "failed")
    assert [row["status"] for row in attempts] == [500, 500]
    _, attempts = await wait_for_state(database, gone["id"], "failed")
    assert [row["status"] for row in attempts] == [410]
    _, attempts = await wait_for_state(database, nobody["id"], "failed")
    assert [row["error"][:14] for row in attempts] == ["no connection:", "no connection:"]


async def test_a_listed_callback_is_told_of_each_event_it_names(
    stack: Stack, services: ServiceRunner, receiver: Receiver
) -> None:
    callback = {"url": f"{receiver.url}/all?x=1", "on": ["sent", "failed", "deferred"]}
    mail = str(uuid4())
    failed = {"id": mail, "account": "shop", "callback": callback, "reason": "deferred"}
    topics = stack.topics
    await start_worker(services)
    await publish(
        stack.bootstrap_servers, topics.failed, failed | {"final": False}, headers=build_headers("email.failed")
    )
    await publish(
        stack.bootstrap_servers,
        topics.sent,
        build_sent(callback, id=mail, complete=False, outcomes=None),
        headers=build_headers(),
    )
    await publish(
        stack.bootstrap_servers, topics.failed, failed | {"final": True}, headers=build_headers("email.failed")
    )
    await receiver.wait_for(3)
    bodies = [orjson.loads(body) for _, _, body in receiver.requests]
    told = sorted((body["type"], body["data"].get("final")) for body in bodies if body["type"] == "email.failed")
    assert told == [("email.failed", False), ("email.failed", True)]
    assert sum(body["type"] == "email.sent" for body in bodies) == 1


async def test_addresses_of_our_own_network_are_refused_at_once_and_for_good(
    stack: Stack, services: ServiceRunner, receiver: Receiver, database: Database
) -> None:
    port = receiver.url.rpartition(":")[2]
    hosts = ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]", "127.1"]
    never = ["169.254.169.254", "[fe80::1]", "0.0.0.0", "[::]", "224.0.0.1", "[fd00:ec2::254]"]
    events = [build_sent(f"http://{host}:{port}/") for host in hosts + never]
    for strange in ("gopher://127.0.0.1/", "ws://127.0.0.1/", "nonsense", "http://"):
        events.append(build_sent(strange))
    await start_worker(services, MILENA_CALLBACK_ALLOWED_NETWORKS="10.0.0.0/8")
    for event in events:
        await publish(stack.bootstrap_servers, stack.topics.sent, event, headers=build_headers())
    for event in events:
        _, attempts = await wait_for_state(database, event["id"], "failed")
        assert len(attempts) == 1, event["callback"]
        assert attempts[0]["error"].startswith("refused: "), (event["callback"], attempts[0]["error"])
    assert receiver.requests == []


async def test_a_hanging_and_a_flooding_receiver_are_cut_off_and_hold_nobody_up(
    stack: Stack, services: ServiceRunner, receiver: Receiver, database: Database
) -> None:
    async def hang() -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async def flood() -> web.StreamResponse:
        return web.Response(status=500, body=b"\x00\xff" + b"x" * 3_000_000)

    receiver.answers["/hang"] = [hang]
    receiver.answers["/flood"] = [flood]
    hanging, flooding, good = (build_sent(f"{receiver.url}/{name}") for name in ("hang", "flood", "good"))
    await start_worker(services, MILENA_CALLBACK_TIMEOUT_S="2")
    for event in (hanging, flooding, good):
        await publish(stack.bootstrap_servers, stack.topics.sent, event, headers=build_headers())
    await wait_for_state(database, good["id"], "delivered")
    assert (await read_delivery(database, hanging["id"]))[1] == []
    _, attempts = await wait_for_state(database, flooding["id"], "delivered")
    assert len(attempts[0]["response"]) == 2048
    _, attempts = await wait_for_state(database, hanging["id"], "delivered")
    assert attempts[0]["error"] == "no complete answer within 2 s"
    assert 1900 <= attempts[0]["duration_ms"] < 3000


async def test_a_host_that_hangs_does_not_hold_up_another(
    stack: Stack, services: ServiceRunner, receiver: Receiver, database: Database
) -> None:
    async def hang() -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    receiver.answers["/hang"] = [hang] * 20
    # Another name for the same receiver is another host to the worker.
    other = build_sent(receiver.url.replace("127.0.0.1", "localhost"))
    await start_worker(services, MILENA_CALLBACK_CONCURRENCY="4", MILENA_CALLBACK_HOST_CONCURRENCY="2")
    for _ in range(20):
        hanging = build_sent(f"{receiver.url}/hang")
        await publish(stack.bootstrap_servers, stack.topics.sent, hanging, headers=build_headers())
    await receiver.wait_for(2)
    await publish(stack.bootstrap_servers, stack.topics.sent, other, headers=build_headers())
    await wait_for_state(database, other["id"], "delivered")
    assert [path for path, _, _ in receiver.requests].count("/hang") == 2


async def test_a_stop_waits_for_the_request_at_work(
    stack: Stack, services: ServiceRunner, receiver: Receiver, database: Database
) -> None:
    async def answer_late() -> web.StreamResponse:
        await asyncio.sleep(1.5)
        return web.Response(status=200)

    receiver.answers["/late"] = [answer_late]
    event = build_sent(f"{receiver.url}/late")
    worker = await start_worker(services)
    await publish(stack.bootstrap_servers, stack.topics.sent, event, headers=build_headers())
    await receiver.wait_for(1)
    worker.terminate()
    assert await worker.wait_exit() == 0
    delivery, attempts = await read_delivery(database, event["id"])
    assert delivery["state"] == "delivered"
    assert [row["status"] for row in attempts] == [200]


async def test_a_request_whose_worker_was_killed_is_made_again_after_its_lease(
    stack: Stack, services: ServiceRunner, receiver: Receiver, database: Database
) -> None:
    async def answer_never() -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    receiver.answers["/kill"] = [answer_never]
    event = build_sent(f"{receiver.url}/kill")
    worker = await start_worker(services, MILENA_CALLBACK_TIMEOUT_S="1", MILENA_CALLBACK_LEASE_S="11")
    await publish(stack.bootstrap_servers, stack.topics.sent, event, headers=build_headers())
    await receiver.wait_for(1)
    worker.kill()
    await database.fetch("UPDATE callback.delivery SET lease_until = now() + interval '1 s'")
    worker.restart()
    await wait_for_state(database, event["id"], "delivered")
    first, second = receiver.requests
    assert first[1]["webhook-id"] == second[1]["webhook-id"]


async def test_the_worker_goes_on_after_an_outage_of_postgresql(
    stack: Stack, services: ServiceRunner, receiver: Receiver, database: Database
) -> None:
    async with DatabaseProxy(stack.database_url) as proxy:

        async def cut_and_answer() -> web.StreamResponse:
            await proxy.cut()
            return web.Response(status=200)

        receiver.answers["/cut"] = [cut_and_answer]
        first, second = build_sent(f"{receiver.url}/cut"), build_sent(f"{receiver.url}/after")
        worker = await start_worker(services, MILENA_DATABASE_URL=proxy.url)
        await publish(stack.bootstrap_servers, stack.topics.sent, first, headers=build_headers())
        await receiver.wait_for(1)
        await publish(stack.bootstrap_servers, stack.topics.sent, second, headers=build_headers())
        await asyncio.sleep(1.5)
        assert len(receiver.requests) == 1
        await proxy.mend()
        for event in (first, second):
            _, attempts = await wait_for_state(database, event["id"], "delivered")
            assert [row["status"] for row in attempts] == [200 if event is first else 204]
        worker.terminate()
        assert await worker.wait_exit() == 0


async def test_what_is_unreadable_is_skipped_and_said(
    stack: Stack, services: ServiceRunner, receiver: Receiver, database: Database
) -> None:
    good = build_sent(f"{receiver.url}/")
    broken = {key: value for key, value in build_sent(f"{receiver.url}/").items() if key != "id"}
    worker = await start_worker(services)
    nul = build_sent(f"{receiver.url}/\x00")
    headers = build_headers() | {"traceparent": "a\x00b"}
    await publish(stack.bootstrap_servers, stack.topics.sent, b"nonsense", broken, nul, good, headers=headers)
    await wait_for_state(database, good["id"], "delivered")
    assert len(receiver.requests) == 1
    assert "unreadable result skipped" in worker.read_log()
