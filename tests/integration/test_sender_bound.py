"""The bound on mail that waits in the database (P9), with a small one."""

import asyncio

import asyncpg
import httpx

from tests.support.operating import operate, wait_until
from tests.support.servers import RealServers


async def test_at_the_bound_no_new_mail_is_taken_and_what_waits_goes_on(real_servers: RealServers) -> None:
    async with operate(
        real_servers, MILENA_WAITING_LIMIT="10", MILENA_LANE_LIMIT="5", MILENA_RETRY_DELAYS="4"
    ) as operated:
        operated.plan.answers["rcpt", "busy@"] = "450 4.2.1 mailbox busy"
        ids = await operated.publish(10, to=["busy@example.org"])
        await wait_until(lambda: all(operated.results[each] for each in ids))
        url = f"{operated.sender.url}/readyz"
        async with asyncio.timeout(10):
            while (answer := httpx.get(url)).status_code == 200:
                await asyncio.sleep(0.1)
        assert "MILENA_WAITING_LIMIT is 10" in answer.json()["checks"]["waiting"]
        others = await operated.publish(60)
        await asyncio.sleep(1)
        connection = await asyncpg.connect(operated.stack.database_url)
        known = await connection.fetchval("SELECT count(*) FROM sender.ledger")
        await connection.close()
        assert known == 10, "what is new waits in Kafka"
        metrics = httpx.get(f"{operated.sender.url}/metrics").text
        assert 'milena_waiting_mails{kind="deferred"} 10.0' in metrics
        operated.plan.answers.clear()
        await operated.wait_taken(ids + others, 15)
        await asyncio.sleep(1.5)
        assert httpx.get(url).status_code == 200
