"""A bulk event: one content for many, every entry a mail of its own that hurts no other (R2)."""

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.events import derive_bulk_entry_id
from tests.integration.test_sender_faults import LEASE, count_copies, read_ends, read_unknowns
from tests.integration.test_sender_path import start_sender
from tests.support.events import publish_json, read_results, wait_acknowledged
from tests.support.services import ServiceRunner
from tests.support.smtp import Script, run_smtp
from tests.support.stack import Stack


def make_bulk(*mails: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "bulk_id": str(uuid4()),
        "from": "Shop <shop@example.com>",
        "subject": "Hello {{ name }}",
        "text": "Dear {{ name }}",
        "html": "<p>Dear {{ name }}</p>",
        "tags": ["spring"],
        "mails": list(mails),
        **fields,
    }


def address(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": str(uuid4()), "to": f"{name}@example.org", "variables": {"name": name.title()}, **fields}


async def suppress(stack: Stack, email: str) -> None:
    connection = await asyncpg.connect(stack.database_url)
    try:
        await connection.execute(
            "INSERT INTO sender.suppression (account, address, reason) VALUES ('default', $1, 'manual')", email
        )
    finally:
        await connection.close()


async def test_what_happens_to_one_mail_of_a_bulk_event_happens_to_no_other(
    services: ServiceRunner, stack: Stack
) -> None:
    tried: set[str] = set()

    def answer(step: str, argument: str) -> str | None:
        if step == "rcpt" and argument.startswith("refused"):
            return "550 5.1.1 no such user"
        if step == "rcpt" and argument.startswith("busy") and argument not in tried:
            tried.add(argument)
            return "451 4.2.1 later"
        return None

    mails = {name: address(name) for name in ("ann", "bob", "refused", "busy", "stopped", "barred", "eve")}
    mails["eve"]["metadata"] = {"row": 7}
    mails["broken"] = address("broken", variables={})
    nameless = {"to": "late@example.org", "name": "Late, Lee", "variables": {"name": "Lee"}}
    bulk = make_bulk(*mails.values(), nameless)
    mails["late"] = {**nameless, "id": str(derive_bulk_entry_id(UUID(bulk["bulk_id"]), len(mails)))}
    async with run_smtp(Script(answer)) as relay:
        await suppress(stack, "barred@example.org")
        await publish_json(stack, {"id": mails["stopped"]["id"], "cancel": True}, partition=0)
        await publish_json(stack, bulk, partition=0)
        start_sender(services, stack, relay.port)
        ends = await read_ends(stack, len(mails))
        by_id = {str(mail["id"]): name for name, mail in mails.items()}
        assert {by_id[email_id] for email_id, end in ends.items() if end == "email.sent"} == {
            *("ann", "bob", "busy", "eve", "late")
        }
        results = [each for each in await read_results(stack, count=10) if each.data.get("final", True)]
        reasons = {by_id[each.data["id"]]: each.data.get("reason") for each in results}
        assert {name: reason for name, reason in reasons.items() if reason} == {
            "refused": "rejected",
            "stopped": "cancelled",
            "barred": "suppressed",
            "broken": "template_error",
        }
        eve = next(each.data for each in results if each.data["id"] == mails["eve"]["id"])
        assert (eve["metadata"], eve["tags"]) == ({"row": 7}, ["spring"])
        taken = {each.recipients: each for each in relay.taken}
        assert len(taken) == len(relay.taken) == 5
        assert taken["ann@example.org",].message["Subject"] == "Hello Ann"
        assert taken["late@example.org",].message["To"] == '"Late, Lee" <late@example.org>'
        assert taken["busy@example.org",].message["Message-ID"] == f"<{mails['busy']['id']}@example.com>"


@pytest.mark.parametrize("point", ["publish.before=kill@2"])
async def test_a_death_in_the_middle_of_a_bulk_event_loses_nothing(
    services: ServiceRunner, stack: Stack, point: str
) -> None:
    bulk = make_bulk(*(address(f"user{number}") for number in range(60)))
    async with run_smtp(Script(delay=lambda step, _: 0.02 if step == "dot" else 0.0)) as relay:
        process = start_sender(services, stack, relay.port, MILENA_TEST_FAILPOINTS=point, **LEASE)
        await publish_json(stack, bulk)
        assert await process.wait_exit(20) == -9
        start_sender(services, stack, relay.port, **LEASE)
        ends = await read_ends(stack, 60)
        assert ends == {mail["id"]: "email.sent" for mail in bulk["mails"]}
        copies, unknowns = count_copies(relay), await read_unknowns(stack)
        assert set(copies) == set(unknowns)
        assert {mail for mail, count in copies.items() if count > 1} <= {mail for mail, n in unknowns.items() if n}


async def test_a_bulk_event_that_comes_again_is_told_again_and_not_sent_again(
    services: ServiceRunner, stack: Stack
) -> None:
    bulk = make_bulk(*(address(f"user{number}") for number in range(300)))
    async with run_smtp() as relay:
        start_sender(services, stack, relay.port)
        await publish_json(stack, bulk, bulk)
        first = await read_results(stack, count=300)
        await publish_json(stack, bulk)
        again = await read_results(stack, count=len(first) + 300, settle_s=1)
        assert {each.ce_id for each in again} == {each.ce_id for each in first}
        assert len(relay.taken) == 300
        await wait_acknowledged(stack, "sender", 3)
