"""What must not go out does not: staging safety, and mail that expires while it waits at the relay."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from tests.support.events import publish_json, read_results
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.smtp import Script, run_smtp
from tests.support.stack import Stack

MAIL: dict[str, Any] = {"from": "no-reply@example.com", "to": "ann@x.org, bob@y.org", "subject": "s", "text": "t"}


def start_sender(services: ServiceRunner, stack: Stack, port: int, **env: str) -> ServiceProcess:
    return services.start("services.sender", "worker", env={**stack.env(), "MILENA_SMTP_PORT": str(port), **env})


async def read_page(sender: ServiceProcess, path: str) -> str:
    async with httpx.AsyncClient(timeout=5) as client:
        return (await client.get(f"{sender.url}{path}")).text


async def test_redirected_mail_goes_to_one_address_and_events_name_the_real_ones(
    services: ServiceRunner, stack: Stack
) -> None:
    async with run_smtp() as relay:
        sender = start_sender(services, stack, relay.port, MILENA_REDIRECT_ALL_TO="test@staging.org")
        await publish_json(stack, MAIL)
        (sent,) = await read_results(stack, count=1)
        (taken,) = relay.taken
        await sender.wait_ready()
        ready = await read_page(sender, "/readyz")
        metrics = await read_page(sender, "/metrics")
    assert taken.recipients == ("test@staging.org",)
    assert taken.message["X-Milena-Original-Recipients"] == "ann@x.org, bob@y.org"
    assert taken.message["To"] == "ann@x.org, bob@y.org"
    assert sent.data["recipients"] == ["ann@x.org", "bob@y.org"]
    assert sent.data["complete"]
    assert "MILENA_REDIRECT_ALL_TO" in ready
    assert 'milena_staging_safety{setting="MILENA_REDIRECT_ALL_TO"} 1.0' in metrics
    log = sender.read_log()
    assert "mail does not go to everybody" in log
    assert "test@staging.org" not in log


async def test_recipients_at_other_domains_fail_and_the_others_get_their_mail(
    services: ServiceRunner, stack: Stack
) -> None:
    async with run_smtp() as relay:
        start_sender(services, stack, relay.port, MILENA_ALLOWED_RECIPIENT_DOMAINS="x.org")
        await publish_json(stack, MAIL, MAIL | {"to": "bob@y.org"})
        results = await read_results(stack, count=3)
        assert [each.recipients for each in relay.taken] == [("ann@x.org",)]
    assert sorted(each.topic.rpartition(".")[2] for each in results) == ["failed", "failed", "sent"]
    for each in results:
        if "reason" in each.data:
            assert (each.data["reason"], each.data["final"]) == ("suppressed", True)
            (recipient,) = each.data["recipients"]
            assert recipient["address"] == "bob@y.org"
            assert "MILENA_ALLOWED_RECIPIENT_DOMAINS" in recipient["diagnostic"]


async def test_a_mail_that_expires_while_it_waits_for_its_turn_is_not_sent_late(
    services: ServiceRunner, stack: Stack
) -> None:
    slow, late = str(uuid4()), str(uuid4())
    script = Script(delay=lambda step, argument: 5.0 if step == "dot" and slow in argument else 0.0)
    async with run_smtp(script) as relay:
        sender = start_sender(services, stack, relay.port, MILENA_SMTP_CONNECTIONS="1")
        await sender.wait_ready()
        # In one partition, so that the late one waits behind the slow one on the only connection.
        expires_at = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
        await publish_json(stack, MAIL | {"id": slow}, MAIL | {"id": late, "expires_at": expires_at}, partition=0)
        results = {each.data["id"]: each for each in await read_results(stack, count=2, timeout_s=20)}
        assert [each.message_id for each in relay.taken] == [f"<{slow}@example.com>"]
    failed = results[late].data
    assert (failed["reason"], failed["final"], failed["complete"]) == ("expired", True, True)
    assert "message_id" in results[slow].data
