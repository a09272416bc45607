"""Mail that is not bulk overtakes what is (R2), with the whole stack running."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine

import orjson

from tests.bench.figures import Figures
from tests.bench.latency import Poster
from tests.bench.mails import Record, make_body, make_mail, publish_records
from tests.bench.posting import HttpConnection
from tests.bench.senders import Share, take_share
from tests.bench.stamping import Stamps, run_stamping_relay
from tests.bench.targets import take_percentile
from tests.bench.watching import wait_count
from tests.support.gateway import mint
from tests.support.servers import RealServers

_BATCHES = 5
Begin = Callable[[Share, int], Coroutine[None, None, None]]


async def measure_overtaking(
    servers: RealServers, mails: int, rate: float, seconds: float, *, begin: Begin | None = None
) -> Figures:
    """Single posts at a rate while bulk mail is on its way: from the moment a post is due to the relay's final dot.

    `begin` sets so many bulk mails going; by default they are published.
    """
    stamps = Stamps()
    async with run_stamping_relay(stamps) as port:
        with take_share(servers, relay_port=port) as share:
            caller = await mint(share.stack.database_url)
            processes = await share.start_stack()
            url, authorization = f"{processes[0].url}/v1/emails", caller.headers["Authorization"]
            connections = [await HttpConnection.open(url, authorization) for _ in range(10)]
            poster = Poster(connections, json.dumps(make_body()).encode())
            started = time.monotonic()
            publishing = asyncio.create_task((begin or _publish)(share, mails))
            await asyncio.sleep(1)
            await poster.post_at(rate, seconds)
            still_running = len(stamps.taken) < mails
            await publishing
            await wait_count(lambda: len(stamps.taken), mails + len(poster.posted), "mails at the relay", processes)
            took_s = time.monotonic() - started
            for connection in connections:
                connection.close()
    took = [stamps.taken[email_id] - due for email_id, due in poster.posted.items()]
    return {
        "p50_ms": take_percentile(took, 50) * 1e3,
        "p99_ms": take_percentile(took, 99) * 1e3,
        "longest_ms": max(took) * 1e3,
        "bulk_mails_per_s": mails / took_s,
        "bulk_outlasted_it": float(still_running),
    }


async def _publish(share: Share, mails: int) -> None:
    def make(number: int) -> Record:
        mail = {**make_mail(number), "priority": "bulk", "batch_id": f"batch-{number % _BATCHES}"}
        return mail["id"].encode(), orjson.dumps(mail)

    await publish_records(share.stack.bootstrap_servers, share.topics.requested, mails, make)
