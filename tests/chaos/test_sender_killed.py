"""A sender killed in the middle of its work: nothing lost, doubles only where the ledger says unknown.

Runs for over a minute: a killed process's claims are taken over only when their lease has run out.
"""

import asyncio
from uuid import uuid4

import asyncpg

from tests.integration.test_sender_path import SIMPLE, start_sender
from tests.support.events import publish_json
from tests.support.services import ServiceRunner
from tests.support.smtp import run_smtp
from tests.support.stack import Stack


async def test_a_killed_sender_loses_nothing(services: ServiceRunner, stack: Stack) -> None:
    async with run_smtp() as relay:
        relay.script.dot_delay_s = 0.02
        process = start_sender(services, stack, relay.port)
        await publish_json(stack, *(SIMPLE | {"id": str(uuid4()), "to": [f"u{n}@example.org"]} for n in range(300)))
        await relay.wait_taken(50, 30)
        process.kill()
        process.restart()
        # What it had claimed is parked until the lease has run out, then taken over as unknown.
        everybody = {f"u{n}@example.org" for n in range(300)}
        async with asyncio.timeout(75):
            while {recipient for each in relay.taken for recipient in each.recipients} != everybody:
                await asyncio.sleep(0.2)
        doubled = [key for key, times in relay.deliveries().items() if times > 1]
        connection = await asyncpg.connect(stack.database_url)
        unknown = await connection.fetch("SELECT message_id FROM sender.ledger WHERE unknowns > 0")
        await connection.close()
        assert unknown
        assert {message_id for message_id, _ in doubled} <= {row["message_id"] for row in unknown}
