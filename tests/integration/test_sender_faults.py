"""A sender that dies, or hears no answer, between two stages: every mail has one end, doubles only where unknown."""

import asyncio
import random
from collections import Counter
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.integration.test_sender_path import start_sender
from tests.support.events import SIMPLE, publish_json, read_results
from tests.support.services import ServiceRunner
from tests.support.smtp import SmtpServer, run_smtp
from tests.support.stack import Stack

LEASE: dict[str, Any] = {"MILENA_TEST_LEASE": "2"}


def write_mails(count: int) -> list[dict[str, object]]:
    return [SIMPLE | {"id": str(uuid4()), "to": [f"u{n}@example.org"]} for n in range(count)]


async def read_ends(stack: Stack, count: int, timeout_s: float = 30.0) -> dict[str, str]:
    """The type of each mail's completing event, by id."""
    async with asyncio.timeout(timeout_s):
        while True:
            results = await read_results(stack, count=0, timeout_s=0.5)
            ends = {each.data["id"]: each.headers["ce_type"] for each in results if each.data.get("complete")}
            if len(ends) >= count:
                return ends


async def read_unknowns(stack: Stack) -> dict[str, int]:
    """How often the ledger calls a mail's outcome unknown, by Message-ID."""
    connection = await asyncpg.connect(stack.database_url)
    try:
        return {row["message_id"]: row["unknowns"] for row in await connection.fetch("SELECT * FROM sender.ledger")}
    finally:
        await connection.close()


def count_copies(relay: SmtpServer) -> Counter[str]:
    return Counter(str(each.message["Message-ID"]) for each in relay.taken)


async def test_answers_lost_by_database_and_broker_change_nothing(services: ServiceRunner, stack: Stack) -> None:
    statements = (
        "INSERT INTO sender.ledger",
        "UPDATE sender.ledger",
        "INSERT INTO sender.due",
        "DELETE FROM sender.due",
    )
    lost = ",".join(f"database.answered[{each}]=lose@{n}" for each in statements for n in (1, 2))
    lost += ",publisher.acknowledged=lose@1,publisher.acknowledged=lose@3"
    async with run_smtp() as relay:
        process = start_sender(services, stack, relay.port, MILENA_TEST_FAILPOINTS=lost)
        mails = write_mails(50)
        await publish_json(stack, *mails, {"subject": "nobody"})
        ends = await read_ends(stack, 51)
        assert [ends[str(mail["id"])] for mail in mails] == ["email.sent"] * 50
        assert set(count_copies(relay).values()) == {1}
        assert set((await read_unknowns(stack)).values()) == {0}
        async with httpx.AsyncClient() as client:
            metrics = (await client.get(f"{process.url}/metrics")).text
        assert 'milena_claims_total{found="go_on"}' in metrics, "no claim was repeated"


@pytest.mark.parametrize(
    ("point", "may_double"),
    [("claim.after", False), ("settle.before", True)],  # all the others: tests/chaos/test_matrix.py
)
async def test_a_death_between_two_stages_loses_nothing(
    services: ServiceRunner, stack: Stack, point: str, may_double: bool
) -> None:
    async with run_smtp() as relay:
        process = start_sender(services, stack, relay.port, MILENA_TEST_FAILPOINTS=f"{point}=kill", **LEASE)
        mails = write_mails(20)
        await publish_json(stack, *mails)
        assert await process.wait_exit(20) == -9
        start_sender(services, stack, relay.port, **LEASE)
        ends = await read_ends(stack, 20)
        assert ends == {str(mail["id"]): "email.sent" for mail in mails}
        copies, unknowns = count_copies(relay), await read_unknowns(stack)
        assert set(copies) == set(unknowns)
        doubled = {message_id for message_id, count in copies.items() if count > 1}
        assert doubled <= {message_id for message_id, count in unknowns.items() if count}
        if not may_double:
            assert not doubled
        assert sum(unknowns.values()) > 0, "no claim was left behind"


async def test_a_failpoint_that_does_not_exist_is_refused_at_the_start(services: ServiceRunner, stack: Stack) -> None:
    process = start_sender(services, stack, 1, MILENA_TEST_FAILPOINTS="clam.after=kill")
    assert await process.wait_exit(20) == 2
    assert "MILENA_TEST_FAILPOINTS: there is no point clam.after; write one of decode.before," in process.read_log()


async def test_the_same_ids_in_every_partition_and_order_meet_without_deadlock(
    services: ServiceRunner, stack: Stack
) -> None:
    mails = write_mails(60)
    async with run_smtp() as relay:
        for partition in range(12):
            random.Random(partition).shuffle(mails)
            await publish_json(stack, *mails, partition=partition)
        start_sender(services, stack, relay.port, slot=0, **LEASE)
        start_sender(services, stack, relay.port, slot=1, **LEASE)
        await read_ends(stack, 60)
        await asyncio.sleep(3)  # twins that were parked come up, and find it done
        assert set(count_copies(relay).values()) == {1}
        assert len(relay.taken) == 60
    connection = await asyncpg.connect(stack.database_url)
    try:
        assert (
            await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
        )
        assert await connection.fetchval("SELECT count(*) FROM sender.ledger WHERE unknowns > 0") == 0
    finally:
        await connection.close()


async def wait_failed(stack: Stack, email_id: str, timeout_s: float = 30.0) -> dict[str, Any]:
    """The latest email.failed of a mail."""
    async with asyncio.timeout(timeout_s):
        while True:
            results = await read_results(stack, count=0, topics=(stack.topics.failed,), timeout_s=0.5)
            if mine := [each.data for each in results if each.data.get("id") == email_id]:
                return mine[-1]


async def test_cancelled_after_its_sender_died_it_is_unknown_for_the_relay_may_have_it(
    services: ServiceRunner, stack: Stack
) -> None:
    (mail,) = write_mails(1)
    async with run_smtp() as relay:
        process = start_sender(services, stack, relay.port, MILENA_TEST_FAILPOINTS="settle.before=kill", **LEASE)
        await publish_json(stack, mail)
        assert await process.wait_exit(20) == -9
        assert len(relay.taken) == 1
        await publish_json(stack, {"id": mail["id"], "cancel": True})
        start_sender(services, stack, relay.port, **LEASE)
        failed = await wait_failed(stack, str(mail["id"]))
        assert (failed["reason"], failed["final"]) == ("unknown", False)
        assert len(relay.taken) == 1, "cancelled, it is not sent again"


async def test_a_held_mail_is_told_of_although_its_teller_died(services: ServiceRunner, stack: Stack) -> None:
    (mail,) = write_mails(1)
    async with run_smtp() as relay:
        for point in ("settle.before", "settle.after"):
            process = start_sender(services, stack, relay.port, MILENA_TEST_FAILPOINTS=f"{point}=kill", **LEASE)
            if point == "settle.before":
                await publish_json(stack, mail | {"on_unknown": "hold"})
            assert await process.wait_exit(30) == -9
        start_sender(services, stack, relay.port, **LEASE)
        failed = await wait_failed(stack, str(mail["id"]))
        assert (failed["reason"], failed["final"]) == ("unknown", False)
        assert len(relay.taken) == 1
