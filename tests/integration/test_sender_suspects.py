"""A record that ends every process that reads it (R4): named, held, skipped; everything else goes on."""

import asyncio
from uuid import uuid4

import httpx
from typer.testing import CliRunner, Result

from services.sender.__main__ import app
from tests.integration.test_sender_path import start_sender
from tests.support.events import SIMPLE, publish_json, read_results
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.smtp import run_smtp
from tests.support.stack import Stack

_POISON = "poison@example.org"


async def _find_held(process: ServiceProcess) -> str | None:
    """What /readyz says of records; starts the process again when it has died."""
    if process.returncode is not None:
        process.restart()
    try:
        async with httpx.AsyncClient(timeout=2) as client:
            checks = (await client.get(f"{process.url}/readyz")).json()["checks"]
    except httpx.HTTPError:
        return None
    return None if checks["records"] == "ok" else str(checks["records"])


async def _skip(stack: Stack, *arguments: str) -> Result:
    """`python -m services.sender skip …`, in this process."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["skip", *arguments], env=stack.env())


async def test_a_record_that_ends_its_readers_is_held_and_skipped(services: ServiceRunner, stack: Stack) -> None:
    before, poison, after = (
        SIMPLE | {"id": str(uuid4()), "to": [to]} for to in ("a@b.example", _POISON, "c@d.example")
    )
    others = [SIMPLE | {"id": str(uuid4()), "to": [f"u{n}@example.org"]} for n in range(11)]
    async with run_smtp() as relay:
        await publish_json(stack, before, poison, after, partition=0)
        for number, each in enumerate(others):
            await publish_json(stack, each, partition=number + 1)
        process = start_sender(
            services,
            stack,
            relay.port,
            MILENA_TEST_LEASE="2",
            MILENA_TEST_FAILPOINTS=f"decode.before[{_POISON}]=kill@*",
        )
        async with asyncio.timeout(60):
            while not (held := await _find_held(process)):
                await asyncio.sleep(0.1)
        assert held.startswith(f"{stack.topics.requested} partition 0 waits at offset 1, which has ended 3 processes")

        # Everything else goes on: other partitions, and what lies behind it.
        await relay.wait_taken(13, 20)
        assert _POISON not in {to for each in relay.taken for to in each.recipients}
        async with httpx.AsyncClient() as client:
            metrics = (await client.get(f"{process.url}/metrics")).text
        assert 'milena_record_held{offset="1",partition="0"} 1.0' in metrics

        # The operator's turn.
        listed = await _skip(stack)
        assert listed.exit_code == 0
        assert "partition 0 offset 1: 3 deaths, held" in listed.output
        wrong = await _skip(stack, "--partition", "0", "--offset", "0")
        assert wrong.exit_code == 1
        right = services.start("services.sender", "skip", "--partition", "0", "--offset", "1")
        assert await right.wait_exit() == 0
        (failed,) = await read_results(stack, count=1, topics=(stack.topics.failed,), settle_s=1)
        assert failed.data["reason"] == "invalid_request"
        assert failed.data["source"] == {"topic": stack.topics.requested, "partition": 0, "offset": 1}
        assert "id" not in failed.data
        await process.wait_ready()

        # A clean restart begins behind it, and does not count as a death.
        process.terminate()
        assert await process.wait_exit(20) == 0
        process.restart()
        await process.wait_ready()
        later = SIMPLE | {"id": str(uuid4()), "to": ["later@example.org"]}
        await publish_json(stack, later, partition=0)
        await relay.wait_taken(len(relay.taken) + 1, 10)
        assert relay.taken[-1].recipients == ("later@example.org",)
