"""Bulk mail's whole path on real parts: taken in, handed out in the window, sent, its results counted (R2)."""

import asyncio
from uuid import uuid4

from shared.database import Database
from tests.integration.test_sender_path import start_sender
from tests.support.events import publish_json
from tests.support.services import ServiceRunner
from tests.support.smtp import run_smtp
from tests.support.stack import Stack


async def test_whole(services: ServiceRunner, stack: Stack) -> None:
    import time

    async with run_smtp() as relay:
        start_sender(services, stack, relay.port)
        w = services.start("services.scheduler", "worker")
        await w.wait_ready()
        for n in range(20):
            await publish_json(
                stack,
                {
                    "bulk_id": str(uuid4()),
                    "from": "a@x.org",
                    "subject": "Hi {{ n }}",
                    "text": "t",
                    "priority": "bulk",
                    "batch_id": "b",
                    "mails": [{"to": f"u{n}-{i}@y.org", "variables": {"n": i}} for i in range(100)],
                },
            )
        await publish_json(
            stack,
            *[
                {
                    "from": "a@x.org",
                    "to": [f"s{i}@y.org"],
                    "cc": ["c@y.org"],
                    "subject": "Hi",
                    "text": "t {{",
                    "priority": "bulk",
                }
                for i in range(20)
            ],
        )
        await publish_json(
            stack,
            *[
                {"from": "a@x.org", "to": [f"s{i}@y.org"], "subject": "Hi", "text": "t {{", "priority": "bulk"}
                for i in range(20)
            ],
        )
        t = time.time()
        db = Database(stack.database_url)
        while time.time() - t < 15:
            r = await db.fetch("select * from scheduler.bulk_window")
            l = await db.fetch("select * from scheduler.bulk_lane")
            print(
                round(time.time() - t, 2),
                dict(r[0]),
                [(x["kind"], x["pending"], x["queued"], x["sent"], x["failed"]) for x in l],
                len(relay.taken),
            )
            if l and sum(x["sent"] for x in l) == 2040:
                break
            await asyncio.sleep(0.3)
        print(await db.fetch("select * from scheduler.bulk_group"))
        print(w.read_log()[-3000:])

        print(w.read_log()[-3000:])
        assert len(relay.taken) == 2040
        await db.close()
