"""From a record on email.requested to the relay and back to email.sent and email.failed, on real parts."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.events import Result, publish_json, publish_raw, read_results
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.smtp import Script, SmtpServer, run_smtp
from tests.support.stack import Stack

SIMPLE: dict[str, Any] = {
    "from": "no-reply@example.com",
    "to": ["ann@example.org"],
    "subject": "Hello",
    "text": "Hi",
    "html": "<b>Hi</b>",
}
QUICK = {"MILENA_RETRY_DELAYS": "0.5,0.5,1"}


@pytest.fixture
async def relay() -> AsyncIterator[SmtpServer]:
    async with run_smtp() as server:
        yield server


def start_sender(services: ServiceRunner, stack: Stack, port: int, slot: int = 0, **env: str) -> ServiceProcess:
    settings = {"MILENA_SMTP_PORT": str(port), "MILENA_SLOT": str(slot), **QUICK, **env}
    return services.start("services.sender", "worker", env={**stack.env(), **settings})


async def fetch_ledger(stack: Stack, email_id: UUID) -> asyncpg.Record:
    connection = await asyncpg.connect(stack.database_url)
    try:
        row = await connection.fetchrow("SELECT * FROM sender.ledger WHERE id = $1", email_id)
        assert row is not None
        return row
    finally:
        await connection.close()


async def test_a_minimal_record_without_id_or_key_is_sent_and_told(
    services: ServiceRunner, stack: Stack, relay: SmtpServer
) -> None:
    start_sender(services, stack, relay.port)
    await publish_json(stack, SIMPLE)
    (result,) = await read_results(stack, count=1)
    assert result.headers["ce_type"] == "email.sent"
    assert result.data["complete"] is True
    assert result.data["outcomes"] == [{"address": "ann@example.org", "state": "sent", "attempt": 1}]
    assert result.data["response"] == "250 2.0.0 queued as SCRIPTED"
    (taken,) = relay.taken
    assert taken.recipients == ("ann@example.org",)
    assert taken.message["Message-ID"] == f"<{result.data['id']}@example.com>"
    body = taken.message.get_body(("plain",))
    assert body is not None
    assert body.get_content() == "Hi"


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


async def test_a_4xx_is_sent_by_the_due_loop_at_its_second_attempt(services: ServiceRunner, stack: Stack) -> None:
    refused: list[str] = []

    def answer(step: str, argument: str) -> str | None:
        if step == "rcpt" and not refused:
            refused.append(argument)
            return "450 4.2.1 mailbox busy"
        return None

    async with run_smtp(Script(answer)) as relay:
        start_sender(services, stack, relay.port)
        await publish_json(stack, SIMPLE)
        failed, sent = await read_results(stack, count=2)
        assert failed.data["reason"] == "deferred"
        assert failed.data["final"] is False
        assert failed.data["retry_at"]
        assert failed.data["recipients"][0]["diagnostic"] == "450 4.2.1 mailbox busy"
        assert failed.data["recipients"][0]["enhanced_code"] == "4.2.1"
        assert sent.headers["ce_type"] == "email.sent"
        assert sent.data["attempt"] == 2
        assert len(relay.taken) == 1


async def test_one_recipient_of_three_refused_two_get_it_once(services: ServiceRunner, stack: Stack) -> None:
    def answer(step: str, argument: str) -> str | None:
        return "550 5.1.1 no such user here" if step == "rcpt" and argument.startswith("bob") else None

    async with run_smtp(Script(answer)) as relay:
        start_sender(services, stack, relay.port)
        await publish_json(stack, SIMPLE | {"to": "ann@example.org, bob@example.org, cid@example.org"})
        sent, failed = await read_results(stack, count=2, settle_s=1)
        assert sent.data["recipients"] == ["ann@example.org", "cid@example.org"]
        assert sent.data["complete"] is False
        assert failed.data["complete"] is True
        assert failed.data["reason"] == "rejected"
        assert failed.data["recipients"][0]["diagnostic"] == "550 5.1.1 no such user here"
        assert {each["address"]: each["state"] for each in failed.data["outcomes"]} == {
            "ann@example.org": "sent",
            "bob@example.org": "failed",
            "cid@example.org": "sent",
        }
        assert [each.recipients for each in relay.taken] == [("ann@example.org", "cid@example.org")]


async def test_silence_after_the_content_is_unknown_and_sent_again_under_the_same_message_id(
    services: ServiceRunner, stack: Stack
) -> None:
    dots: list[str] = []

    def answer(step: str, argument: str) -> str | None:
        if step == "dot":
            dots.append(argument)
            return "DROP" if len(dots) == 1 else None
        return None

    async with run_smtp(Script(answer)) as relay:
        start_sender(services, stack, relay.port)
        email_id = uuid4()
        await publish_json(stack, SIMPLE | {"id": str(email_id)})
        unknown, sent = await read_results(stack, count=2)
        assert (unknown.data["reason"], unknown.data["final"]) == ("unknown", False)
        assert sent.data["attempt"] == 2
        assert dots[0] == dots[1]
        assert relay.taken[0].raw == relay.taken[1].raw
        assert (await fetch_ledger(stack, email_id))["unknowns"] == 1


async def test_with_hold_an_unknown_outcome_waits_for_an_operator(services: ServiceRunner, stack: Stack) -> None:
    def answer(step: str, argument: str) -> str | None:
        return "DROP" if step == "dot" else None

    async with run_smtp(Script(answer)) as relay:
        start_sender(services, stack, relay.port)
        email_id = uuid4()
        await publish_json(stack, SIMPLE | {"id": str(email_id), "on_unknown": "hold"})
        (unknown,) = await read_results(stack, count=1, settle_s=2)
        assert (unknown.data["reason"], unknown.data["final"]) == ("unknown", False)
        assert "retry_at" not in unknown.data
        assert len(relay.taken) == 1
        assert (await fetch_ledger(stack, email_id))["state"] == "held"


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


async def test_what_the_scheduler_holds_is_left_to_it(services: ServiceRunner, stack: Stack, relay: SmtpServer) -> None:
    start_sender(services, stack, relay.port)
    await publish_json(stack, SIMPLE | {"send_at": "2001-01-01T00:00:00Z"}, SIMPLE | {"priority": "bulk"}, SIMPLE)
    await read_results(stack, count=1, settle_s=1)
    assert len(relay.taken) == 1


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


async def test_cancelled_before_it_came_it_is_not_sent(
    services: ServiceRunner, stack: Stack, relay: SmtpServer
) -> None:
    start_sender(services, stack, relay.port)
    email_id = str(uuid4())
    await publish_json(stack, {"id": email_id, "cancel": True}, partition=0)
    await asyncio.sleep(6)
    await publish_json(stack, SIMPLE | {"id": email_id}, partition=0)
    (cancelled,) = await read_results(stack, count=1, settle_s=1)
    assert cancelled.data["reason"] == "cancelled"
    assert cancelled.data["complete"] is True
    assert relay.taken == []


async def test_a_mail_past_its_expiry_is_never_sent_late(
    services: ServiceRunner, stack: Stack, relay: SmtpServer
) -> None:
    start_sender(services, stack, relay.port)
    await publish_json(stack, SIMPLE | {"expires_at": "2020-01-01T00:00:00Z"})
    (expired,) = await read_results(stack, count=1, settle_s=1)
    assert (expired.data["reason"], expired.data["final"]) == ("expired", True)
    assert relay.taken == []


async def test_templates_are_rendered_and_their_errors_final(
    services: ServiceRunner, stack: Stack, relay: SmtpServer
) -> None:
    start_sender(services, stack, relay.port)
    template = SIMPLE | {"subject": "Hello {{ name }}", "html": "<b>{{ name }}</b>", "text": "{{ name }}"}
    await publish_json(stack, template | {"variables": {"name": "Ann & Bob"}}, template | {"variables": {}})
    results = await read_results(stack, count=2)
    failed = next(each for each in results if each.headers["ce_type"] == "email.failed")
    assert failed.data["reason"] == "template_error"
    assert "name" in failed.data["recipients"][0]["diagnostic"]
    (taken,) = relay.taken
    assert taken.message["Subject"] == "Hello Ann & Bob"
    assert "Ann &amp; Bob" in taken.raw.decode()


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
