"""Two sender processes and three relays: limits hold for both together, and a relay that refuses us costs nothing."""

import asyncio
import json
from uuid import uuid4

import asyncpg
import httpx

from services.sender.store.shares import ShareStore
from shared.database import Database
from tests.support.events import publish_json
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.smtp import Script, SmtpServer, run_smtp
from tests.support.stack import Stack

PASSWORD = "correct horse battery staple"
LIMIT = 50
WINDOW_S = 4
MAILS = 2400
_BURNT = """
SELECT count(*) FILTER (WHERE state = 'settled') AS settled,
       count(*) FILTER (WHERE attempt > 1 OR state = 'deferred') AS burnt
FROM sender.ledger
"""
CLOSED = Script(lambda step, argument: "535 5.7.8 authentication failed" if step == "auth" else None)


def describe(refusing: SmtpServer, limited: SmtpServer, free: SmtpServer) -> str:
    return json.dumps(
        [
            {"name": "refusing", "host": "127.0.0.1", "port": refusing.port, "username": "ann", "password": PASSWORD},
            {"name": "limited", "host": "127.0.0.1", "port": limited.port, "mails_per_second": LIMIT},
            {"name": "free", "host": "127.0.0.1", "port": free.port, "connections": 4},
        ]
    )


async def publish_many(stack: Stack) -> None:
    mails = [
        {"id": str(uuid4()), "from": "a@example.com", "to": [f"u{n}@example.org"], "subject": "x", "text": "x"}
        for n in range(MAILS)
    ]
    for partition in range(12):
        await publish_json(stack, *mails[partition::12], partition=partition)


async def test_limits_hold_for_two_processes_and_a_refusing_relay_burns_nothing(
    services: ServiceRunner, stack: Stack
) -> None:
    slow = Script(delay=lambda step, argument: 0.05 if step == "dot" else 0.0)
    async with run_smtp(CLOSED) as refusing, run_smtp() as limited, run_smtp(slow) as free:
        env = {**stack.env(), "MILENA_RELAYS": describe(refusing, limited, free)}
        senders = [services.start("services.sender", "worker", env={**env, "MILENA_SLOT": str(n)}) for n in range(2)]
        await asyncio.gather(*(sender.wait_ready() for sender in senders), publish_many(stack))
        await wait_both_send(stack)
        before, before_free = len(limited.taken), len(free.taken)
        await asyncio.sleep(WINDOW_S)
        rate, rate_free = (len(limited.taken) - before) / WINDOW_S, (len(free.taken) - before_free) / WINDOW_S
        assert LIMIT * 0.85 <= rate <= LIMIT * 1.02
        assert rate_free > 40
        assert free.open <= 4
        assert limited.open <= 20
        await check_state(stack, senders)
        assert refusing.taken == []
        await check_burnt(stack)


async def check_burnt(stack: Stack) -> None:
    """While the relays are there: what they are still answering would be unknown afterwards."""
    connection = await asyncpg.connect(stack.database_url)
    try:
        row = await connection.fetchrow(_BURNT)
        assert row and row["settled"] > 100
        assert row["burnt"] == 0
    finally:
        await connection.close()


async def wait_both_send(stack: Stack) -> None:
    """Kafka takes its time to give each process its partitions."""
    database = Database(stack.database_url, pool_size=1)
    try:
        async with asyncio.timeout(40):
            while True:
                relays = await ShareStore(database).list_relays()
                users = next((each.processes for each in relays if each.name == "limited"), [])
                if len(users) == 2 and all(each.sent_rate > 5 for each in users):
                    return
                await asyncio.sleep(0.25)
    finally:
        await database.close()


async def check_state(stack: Stack, senders: list[ServiceProcess]) -> None:
    async with httpx.AsyncClient() as client:
        answers = [await client.get(f"{sender.url}/readyz") for sender in senders]
    warned = [answer.json().get("warnings", {}).get("relay", "") for answer in answers]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert any("username and password of relay 'refusing' in MILENA_RELAYS" in each for each in warned)
    database = Database(stack.database_url, pool_size=1)
    try:
        relays = await ShareStore(database).list_relays()
    finally:
        await database.close()
    assert [each.name for each in relays] == ["refusing", "limited", "free"]
    assert [len(each.processes) for each in relays] == [2, 2, 2]
    assert sum(each.rate or 0 for each in relays[1].processes) <= LIMIT
    assert sum(each.connections for each in relays[2].processes) <= 4
    told = repr(relays) + "".join(sender.read_log() for sender in senders) + repr(warned)
    assert PASSWORD not in told
