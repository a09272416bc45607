"""Pausing and resuming, seen from outside: a sender and its API as processes, a scripted relay."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from tests.support.events import publish_json
from tests.support.operating import Operated, operate, wait_until
from tests.support.servers import RealServers

pytestmark = pytest.mark.asyncio(loop_scope="module")
EFFECTIVE_S = 1.0  # what is promised


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operated(real_servers: RealServers) -> AsyncIterator[Operated]:
    async with operate(real_servers) as running:
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_paused(operated: Operated) -> AsyncIterator[None]:
    yield
    for each in (await operated.get("/v1/sending"))["pauses"]:
        await operated.post(
            "/v1/sending/resume", **{name: each[name] for name in ("scope", "account", "tag") if name in each}
        )


async def fetch(operated: Operated, sql: str, *args: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(operated.stack.database_url)
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()


async def test_mail_of_a_paused_account_waits_out_of_the_way_of_others(operated: Operated) -> None:
    state = await operated.post("/v1/sending/pause", scope="account", account="slow", reason="asked us to")
    assert (state["changed"], state["state"]) == (True, "sending")
    await asyncio.sleep(EFFECTIVE_S)
    paused = await operated.publish(700, account="slow")  # more than a sender holds at once
    others = await operated.publish(20, account="quick")
    await operated.wait_taken(others)
    assert operated.list_taken(paused) == []
    deadline = time.monotonic() + 15
    while (state := await operated.get("/v1/sending"))["pauses"][0]["waiting"] < 700:
        assert time.monotonic() < deadline, state
        await asyncio.sleep(0.1)
    (pause,) = state["pauses"]
    assert (pause["scope"], pause["account"], pause["reason"]) == ("account", "slow", "asked us to")
    assert pause["paused_by"].startswith("operators/test mk_")
    again = await operated.post("/v1/sending/pause", scope="account", account="slow", reason="another")
    assert (again["changed"], again["pauses"][0]["reason"]) == (False, "asked us to")

    began = time.monotonic()
    resumed = await operated.post("/v1/sending/resume", scope="account", account="slow")
    assert (resumed["changed"], resumed["pauses"]) == (True, [])
    await wait_until(lambda: bool(operated.list_taken(paused)), 3)
    assert time.monotonic() - began < 2, "prompt"
    await operated.wait_taken(paused, 20)
    assert len(operated.list_taken(paused)) == 700, "once each"
    assert (await operated.post("/v1/sending/resume", scope="account", account="slow"))["changed"] is False


async def test_a_tag_of_an_account_is_paused_alone(operated: Operated) -> None:
    await operated.post("/v1/sending/pause", scope="tag", account="shop", tag="news")
    await asyncio.sleep(EFFECTIVE_S)
    paused = await operated.publish(3, account="shop", tags=["spring", "news"])
    others = await operated.publish(3, account="shop", tags=["receipt"]) + await operated.publish(
        3, account="another", tags=["news"]
    )
    await operated.wait_taken(others)
    await asyncio.sleep(1)
    assert operated.list_taken(paused) == []
    await operated.post("/v1/sending/resume", scope="tag", account="shop", tag="news")
    await operated.wait_taken(paused)


async def test_the_mails_of_a_bulk_event_are_paused_one_by_one(operated: Operated) -> None:
    await operated.post("/v1/sending/pause", scope="account", account="campaign")
    await asyncio.sleep(EFFECTIVE_S)
    ids = [str(uuid4()) for _ in range(3)]
    content = {"from": "no-reply@example.com", "subject": "Hello {{ name }}", "text": "Hi"}
    mails = [{"id": each, "to": f"u{each[:8]}@example.org", "variables": {"name": each}} for each in ids]
    await publish_json(operated.stack, content | {"bulk_id": str(uuid4()), "account": "campaign", "mails": mails})
    (other,) = await operated.publish(account="another")
    await operated.wait_taken([other])
    async with asyncio.timeout(5):
        while (await operated.get("/v1/sending"))["pauses"][0]["waiting"] < 3:
            await asyncio.sleep(0.05)
    assert operated.list_taken(ids) == []
    await operated.post("/v1/sending/resume", scope="account", account="campaign")
    await operated.wait_taken(ids)
    assert len(operated.list_taken(ids)) == 3


async def test_with_everything_paused_mail_waits_in_kafka_over_a_restart(operated: Operated) -> None:
    await operated.post("/v1/sending/pause", scope="all")
    await asyncio.sleep(EFFECTIVE_S)
    ids = await operated.publish(10)
    await asyncio.sleep(1)
    assert (await operated.get("/v1/sending"))["state"] == "paused"
    assert await fetch(operated, "SELECT 1 FROM sender.ledger WHERE id = ANY($1::text[]::uuid[])", ids) == []
    operated.sender.terminate()
    assert await operated.sender.wait_exit(20) == 0
    operated.sender.restart()
    await operated.sender.wait_ready()
    await asyncio.sleep(2)
    assert operated.list_taken(ids) == []
    await operated.post("/v1/sending/resume", scope="all")
    await operated.wait_taken(ids)
    assert len(operated.list_taken(ids)) == 10


async def test_a_pause_stops_what_is_queued_and_lets_what_has_begun_finish(operated: Operated) -> None:
    operated.plan.delays["dot", "@slow.example"] = 0.25  # eight connections: 32 mails a second
    ids = await operated.publish(200, account="bulk", **{"from": "no-reply@slow.example"})
    await wait_until(lambda: len(operated.list_taken(ids)) > 8)
    await operated.post("/v1/sending/pause", scope="account", account="bulk")
    await asyncio.sleep(EFFECTIVE_S + 0.5)  # two mails of a connection had begun: one was at its dot, one behind it
    taken = len(operated.list_taken(ids))
    assert taken < 100
    await asyncio.sleep(1)
    assert len(operated.list_taken(ids)) == taken
    operated.plan.delays.clear()
    await operated.post("/v1/sending/resume", scope="account", account="bulk")
    await operated.wait_taken(ids)
    assert len(operated.list_taken(ids)) == 200, "once each"
    attempts = await fetch(operated, "SELECT DISTINCT attempt FROM sender.ledger WHERE account = 'bulk'")
    assert [row["attempt"] for row in attempts] == [1], "no attempt was burnt"


async def test_paused_mail_expires_in_time_and_can_be_cancelled(operated: Operated) -> None:
    await operated.post("/v1/sending/pause", scope="account", account="late")
    await asyncio.sleep(EFFECTIVE_S)
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    (expiring,) = await operated.publish(account="late", expires_at=soon)
    (cancelled,) = await operated.publish(account="late")
    await asyncio.sleep(0.5)
    await publish_json(operated.stack, {"id": cancelled, "cancel": True, "account": "late"})
    (told,) = await operated.wait_result(cancelled, "cancelled")
    assert told.data["complete"] is True
    (told,) = await operated.wait_result(expiring, "expired")
    assert told.data["complete"] is True
    assert operated.list_taken([expiring, cancelled]) == []
    assert (
        await fetch(operated, "SELECT 1 FROM sender.due WHERE id = ANY($1::text[]::uuid[])", [expiring, cancelled])
        == []
    )


async def test_deferred_mail_of_a_paused_account_is_tried_again_when_resumed(operated: Operated) -> None:
    operated.plan.answers["rcpt", "busy@"] = "450 4.2.1 mailbox busy"
    (email_id,) = await operated.publish(account="deferring", to=["busy@example.org"])
    await operated.wait_result(email_id, "deferred")
    await operated.post("/v1/sending/pause", scope="account", account="deferring")
    await asyncio.sleep(EFFECTIVE_S)
    operated.plan.answers.clear()
    refusals = len(operated.results[email_id])
    await asyncio.sleep(1.5)
    assert operated.list_taken([email_id]) == []
    (row,) = await fetch(operated, "SELECT kind FROM sender.due WHERE id = $1::text::uuid", email_id)
    assert row["kind"] == "paused"
    await operated.post("/v1/sending/resume", scope="account", account="deferring")
    await operated.wait_taken([email_id], 5)
    await wait_until(lambda: len(operated.results[email_id]) > refusals)
    assert operated.results[email_id][-1].data["complete"] is True
