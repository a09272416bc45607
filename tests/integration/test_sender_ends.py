"""How one mail ends, from its record to the relay and the result topics: one running sender for all of them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from tests.support.events import SIMPLE, Result, publish_json
from tests.support.operating import Operated, operate, wait_until
from tests.support.servers import RealServers

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operated(real_servers: RealServers) -> AsyncIterator[Operated]:
    async with operate(real_servers, with_api=False) as running:
        yield running


async def publish(operated: Operated, **fields: Any) -> str:
    """Publish a mail with an id of its own; returns the id."""
    email_id = str(uuid4())
    await publish_json(operated.stack, SIMPLE | {"id": email_id} | fields)
    return email_id


async def read_all(operated: Operated, email_id: str, *reasons: str, settle_s: float = 1) -> list[Result]:
    """Exactly these results of a mail have come, and no other within the time after them."""
    await operated.wait_result(email_id, *reasons, timeout_s=15)
    await asyncio.sleep(settle_s)
    found = operated.results[email_id]
    assert [each.data.get("reason", "sent") for each in found] == list(reasons)
    return found


async def fetch_ledger(operated: Operated, email_id: str) -> asyncpg.Record:
    connection = await asyncpg.connect(operated.stack.database_url)
    try:
        row = await connection.fetchrow("SELECT * FROM sender.ledger WHERE id = $1", UUID(email_id))
        assert row is not None
        return row
    finally:
        await connection.close()


async def test_a_minimal_record_without_an_id_is_sent_and_told(operated: Operated) -> None:
    def find() -> list[Result]:
        told = [each for results in operated.results.values() for each in results]
        return [each for each in told if each.data["recipients"] == ["minimal@example.org"]]

    await publish_json(operated.stack, SIMPLE | {"to": ["minimal@example.org"]})
    await wait_until(lambda: bool(find()), 15)
    (result,) = find()
    assert result.headers["ce_type"] == "email.sent"
    assert result.data["complete"] is True
    assert result.data["outcomes"] == [{"address": "minimal@example.org", "state": "sent", "attempt": 1}]
    assert result.data["response"] == "250 2.0.0 queued as SCRIPTED"
    (taken,) = [each for each in operated.relay.taken if each.recipients == ("minimal@example.org",)]
    assert taken.message["Message-ID"] == f"<{result.data['id']}@example.com>"
    body = taken.message.get_body(("plain",))
    assert body is not None
    assert body.get_content() == "Hi"


async def test_a_4xx_is_sent_by_the_due_loop_at_its_second_attempt(operated: Operated) -> None:
    refused: list[str] = []

    def answer(step: str, argument: str) -> str | None:
        if step == "rcpt" and argument.startswith("busy") and not refused:
            refused.append(argument)
            return "450 4.2.1 mailbox busy"
        return None

    operated.relay.script.answer = answer
    email_id = await publish(operated, to=["busy@example.org"])
    failed, sent = await read_all(operated, email_id, "deferred", "sent", settle_s=0)
    assert failed.data["final"] is False
    assert failed.data["retry_at"]
    assert failed.data["recipients"][0]["diagnostic"] == "450 4.2.1 mailbox busy"
    assert failed.data["recipients"][0]["enhanced_code"] == "4.2.1"
    assert sent.headers["ce_type"] == "email.sent"
    assert sent.data["attempt"] == 2
    assert operated.list_taken([email_id]) == [email_id]


async def test_one_recipient_of_three_refused_two_get_it_once(operated: Operated) -> None:
    def answer(step: str, argument: str) -> str | None:
        return "550 5.1.1 no such user here" if step == "rcpt" and argument.startswith("bob") else None

    operated.relay.script.answer = answer
    email_id = await publish(operated, to="ann@example.org, bob@example.org, cid@example.org")
    sent, failed = await read_all(operated, email_id, "sent", "rejected")
    assert sent.data["recipients"] == ["ann@example.org", "cid@example.org"]
    assert sent.data["complete"] is False
    assert failed.data["complete"] is True
    assert failed.data["recipients"][0]["diagnostic"] == "550 5.1.1 no such user here"
    assert {each["address"]: each["state"] for each in failed.data["outcomes"]} == {
        "ann@example.org": "sent",
        "bob@example.org": "failed",
        "cid@example.org": "sent",
    }
    taken = [each.recipients for each in operated.relay.taken if email_id in each.message_id]
    assert taken == [("ann@example.org", "cid@example.org")]


async def test_silence_after_the_content_is_unknown_and_sent_again_under_the_same_message_id(
    operated: Operated,
) -> None:
    email_id = str(uuid4())
    dots: list[str] = []

    def answer(step: str, argument: str) -> str | None:
        if step == "dot" and email_id in argument:
            dots.append(argument)
            return "DROP" if len(dots) == 1 else None
        return None

    operated.relay.script.answer = answer
    await publish_json(operated.stack, SIMPLE | {"id": email_id})
    unknown, sent = await read_all(operated, email_id, "unknown", "sent", settle_s=0)
    assert unknown.data["final"] is False
    assert sent.data["attempt"] == 2
    assert dots[0] == dots[1]
    first, second = [each.raw for each in operated.relay.taken if email_id in each.message_id]
    assert first == second
    assert (await fetch_ledger(operated, email_id))["unknowns"] == 1


async def test_with_hold_an_unknown_outcome_waits_for_an_operator(operated: Operated) -> None:
    email_id = str(uuid4())

    def answer(step: str, argument: str) -> str | None:
        return "DROP" if step == "dot" and email_id in argument else None

    operated.relay.script.answer = answer
    await publish_json(operated.stack, SIMPLE | {"id": email_id, "on_unknown": "hold"})
    (unknown,) = await read_all(operated, email_id, "unknown", settle_s=2)
    assert unknown.data["final"] is False
    assert "retry_at" not in unknown.data
    assert operated.list_taken([email_id]) == [email_id]
    assert (await fetch_ledger(operated, email_id))["state"] == "held"


async def test_what_the_scheduler_holds_is_left_to_it(operated: Operated) -> None:
    held = [str(uuid4()), str(uuid4())]
    waiting = ({"send_at": "2001-01-01T00:00:00Z"}, {"priority": "bulk"})
    await publish_json(operated.stack, *(SIMPLE | {"id": i} | why for i, why in zip(held, waiting, strict=True)))
    await read_all(operated, await publish(operated), "sent")
    assert operated.list_taken(held) == []
    assert not any(operated.results.get(each) for each in held)


async def test_cancelled_before_it_came_it_is_not_sent(operated: Operated) -> None:
    email_id = str(uuid4())
    await publish_json(operated.stack, {"id": email_id, "cancel": True}, partition=0)
    await asyncio.sleep(6)
    await publish_json(operated.stack, SIMPLE | {"id": email_id}, partition=0)
    (cancelled,) = await read_all(operated, email_id, "cancelled")
    assert cancelled.data["complete"] is True
    assert operated.list_taken([email_id]) == []


async def test_a_mail_past_its_expiry_is_never_sent_late(operated: Operated) -> None:
    email_id = await publish(operated, expires_at="2020-01-01T00:00:00Z")
    (expired,) = await read_all(operated, email_id, "expired")
    assert expired.data["final"] is True
    assert operated.list_taken([email_id]) == []


async def test_templates_are_rendered_and_their_errors_final(operated: Operated) -> None:
    template = {"subject": "Hello {{ name }}", "html": "<b>{{ name }}</b>", "text": "{{ name }}"}
    rendered = await publish(operated, **template, variables={"name": "Ann & Bob"})
    broken = await publish(operated, **template, variables={})
    (failed,) = await read_all(operated, broken, "template_error", settle_s=0)
    assert failed.headers["ce_type"] == "email.failed"
    assert failed.data["final"] is True
    assert "name" in failed.data["recipients"][0]["diagnostic"]
    await read_all(operated, rendered, "sent", settle_s=0)
    assert operated.list_taken([rendered, broken]) == [rendered]
    (taken,) = [each for each in operated.relay.taken if rendered in each.message_id]
    assert taken.message["Subject"] == "Hello Ann & Bob"
    assert "Ann &amp; Bob" in taken.raw.decode()
