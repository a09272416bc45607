"""From a record on email.requested to the relay and back to email.sent and email.failed, on real parts."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.support.events import SIMPLE, Result, publish_json, publish_raw, read_results
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.smtp import Script, SmtpServer, run_smtp
from tests.support.stack import Stack

QUICK = {"MILENA_RETRY_DELAYS": "0.5,0.5,1"}


@pytest.fixture
async def relay() -> AsyncIterator[SmtpServer]:
    async with run_smtp() as server:
        yield server


def start_sender(services: ServiceRunner, stack: Stack, port: int, slot: int = 0, **env: str) -> ServiceProcess:
    settings = {"MILENA_SMTP_PORT": str(port), "MILENA_SLOT": str(slot), **QUICK, **env}
    return services.start("services.sender", "worker", env={**stack.env(), **settings})


async def test_one_id_published_three_times_to_two_senders_is_one_mail(
    services: ServiceRunner, stack: Stack, relay: SmtpServer
) -> None:
    email_id = str(uuid4())
    twin = SIMPLE | {"id": email_id}
    await publish_json(stack, twin, twin, twin, partition=0)
    start_sender(services, stack, relay.port, slot=0)
    start_sender(services, stack, relay.port, slot=1)
    for partition in range(12):
        await publish_json(stack, twin, partition=partition)
    results = await read_results(stack, count=1, settle_s=5)
    assert len(relay.taken) == 1
    assert {each.ce_id for each in results} == {results[0].ce_id}
    assert {each.data["id"] for each in results} == {email_id}


async def test_a_relay_without_pipelining_is_spoken_to_in_lock_step(services: ServiceRunner, stack: Stack) -> None:
    async with run_smtp(Script(extensions=())) as relay:
        start_sender(services, stack, relay.port)
        await publish_json(stack, *(SIMPLE | {"to": [f"u{n}@example.org", f"v{n}@example.org"]} for n in range(20)))
        await read_results(stack, count=20)
        assert len(relay.taken) == 20


async def test_a_refused_mail_does_not_hurt_the_next_on_its_connection(services: ServiceRunner, stack: Stack) -> None:
    def answer(step: str, argument: str) -> str | None:
        if step == "mail" and argument.startswith("bad-mail"):
            return "550 5.7.1 sender refused"
        if step == "data" and argument.startswith("bad-data"):
            return "451 4.3.0 try later"
        return "550 5.1.1 unknown" if step == "rcpt" and argument.startswith("bad-rcpt") else None

    senders = ["bad-mail@example.com", "good@example.com", "bad-data@example.com", "good@example.com"]
    mails = [SIMPLE | {"from": senders[n % 4], "to": [f"u{n}@example.org"]} for n in range(40)]
    mails += [SIMPLE | {"to": [f"bad-rcpt{n}@example.org"]} for n in range(10)]
    async with run_smtp(Script(answer)) as relay:
        start_sender(services, stack, relay.port, MILENA_SMTP_CONNECTIONS="1", MILENA_RETRY_DELAYS="600")
        await publish_json(stack, *mails)
        results = await read_results(stack, count=50, settle_s=1)
    by_reason: dict[str, list[Result]] = {}
    for each in results:
        by_reason.setdefault(each.data.get("reason", "sent"), []).append(each)
    assert {reason: len(found) for reason, found in by_reason.items()} == {"sent": 20, "rejected": 20, "deferred": 10}
    assert len(relay.taken) == 20
    assert relay.connections == 1


async def test_junk_is_answered_and_blocks_nobody(services: ServiceRunner, stack: Stack, relay: SmtpServer) -> None:
    start_sender(services, stack, relay.port)
    live = str(uuid4())
    await publish_json(stack, SIMPLE | {"id": live}, partition=3)
    await publish_raw(
        stack, b"not json", b"", b"[1]", b'{"id": "%s", "to": 5}' % live.encode(), b"[" * 5000, partition=3
    )
    await publish_json(stack, SIMPLE, partition=3)
    results = await read_results(stack, count=7, settle_s=1)
    refused = [each for each in results if each.data.get("reason") == "invalid_request"]
    assert len(refused) == 5
    assert all(each.data.get("id") is None for each in refused)
    assert sorted(each.data["source"]["offset"] for each in refused) == [1, 2, 3, 4, 5]
    assert any(error["pointer"] == "/to" for each in refused for error in each.data["errors"])
    assert len(relay.taken) == 2


async def test_a_relay_that_is_away_burns_no_attempt(services: ServiceRunner, stack: Stack) -> None:
    async with run_smtp() as placeholder:
        port = placeholder.port
    process = start_sender(services, stack, port)
    email_id = uuid4()
    await publish_json(stack, SIMPLE | {"id": str(email_id)})
    async with asyncio.timeout(20):
        while "relay unavailable" not in process.read_log():
            await asyncio.sleep(0.1)
    async with run_smtp(port=port) as relay:
        (sent,) = await read_results(stack, count=1, timeout_s=30)
        assert sent.data["attempt"] == 1
        assert len(relay.taken) == 1


async def test_sigterm_finishes_what_is_on_the_wire_and_exits(
    services: ServiceRunner, stack: Stack, relay: SmtpServer
) -> None:
    relay.script.dot_delay_s = 0.05
    process = start_sender(services, stack, relay.port)
    await publish_json(stack, *(SIMPLE | {"to": [f"u{n}@example.org"]} for n in range(200)))
    await relay.wait_taken(20, 30)
    process.terminate()
    assert await process.wait_exit(35) == 0
    assert max(relay.deliveries().values()) == 1
    process.restart()
    await relay.wait_taken(200, 60)
    await asyncio.sleep(1)
    assert max(relay.deliveries().values()) == 1
    assert len(relay.taken) == 200
