"""Bulk mail through the whole stack: paced by the scheduler, against the same mails published directly."""

import asyncio
import json
import time
from collections.abc import Callable

import asyncpg
import orjson

from tests.bench.figures import Figures
from tests.bench.latency import Poster
from tests.bench.mails import RECIPIENTS_PER_BULK, Record, make_body, make_bulk, make_single, publish_records
from tests.bench.posting import HttpConnection
from tests.bench.programs import measure_cpu_s
from tests.bench.senders import Share, take_share
from tests.bench.stamping import Stamps, run_stamping_relay
from tests.bench.targets import take_percentile
from tests.bench.watching import wait_count
from tests.support.gateway import mint
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess

_STATUSES = "SELECT count(*) FROM gateway.emails WHERE status = 'sent'"


async def drain_stack(servers: RealServers, mails: int, *, bulk: bool, shared: bool) -> Figures:
    """From the first record published to the last mail's status, every service running, one process of each kind."""
    with take_share(servers) as share:
        processes = await share.start_stack()
        used = _measure(processes)
        started = time.monotonic()
        await _publish(share, mails, bulk=bulk, shared=shared)
        await share.wait_sunk(mails, processes)
        sunk = time.monotonic()
        connection = await asyncpg.connect(share.stack.database_url)
        try:
            await wait_count(lambda: connection.fetchval(_STATUSES), mails, "mails with a status", processes)
        finally:
            await connection.close()
        ended = time.monotonic()
        cpu = {name: (now - used[name]) / mails * 1e6 for name, now in _measure(processes).items()}
    return {"seconds": ended - started, "mails_per_s": mails / (ended - started), "sunk_s": sunk - started} | cpu


async def measure_overtaking(servers: RealServers, mails: int, rate: float, seconds: float) -> Figures:
    """Single posts at a rate while bulk mail is on its way: from the moment a post is due to the relay's final dot."""
    stamps = Stamps()
    async with run_stamping_relay(stamps) as port:
        with take_share(servers, relay_port=port) as share:
            caller = await mint(share.stack.database_url)
            processes = await share.start_stack()
            url, authorization = f"{processes[0].url}/v1/emails", caller.headers["Authorization"]
            connections = [await HttpConnection.open(url, authorization) for _ in range(10)]
            poster = Poster(connections, json.dumps(make_body()).encode())
            started = time.monotonic()
            publishing = asyncio.create_task(_publish(share, mails, bulk=True, shared=False))
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


async def _publish(share: Share, mails: int, *, bulk: bool, shared: bool) -> None:
    make: Callable[[int], Record] = make_bulk if shared else make_single
    count = mails // RECIPIENTS_PER_BULK if shared else mails

    def make_one(number: int) -> Record:
        key, value = make(number)
        fields = {"batch_id": "bench"} | ({"priority": "bulk"} if bulk else {})
        return key, orjson.dumps(orjson.loads(value) | fields)

    await publish_records(share.stack.bootstrap_servers, share.topics.requested, count, make_one)


def _measure(processes: list[ServiceProcess]) -> dict[str, float]:
    return {
        "cpu_us_" + process.name.removeprefix("services.").replace(" ", "_"): measure_cpu_s([process.pid])
        for process in processes
    }
