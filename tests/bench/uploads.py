"""Batches through the whole stack: how soon each mail has its last status, and what pacing costs of that."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import httpx
import orjson

from tests.bench.figures import Figures, NotMeasured
from tests.bench.mails import RECIPIENTS_PER_BULK, make_bulk, make_mail, make_single, publish_records
from tests.bench.programs import measure_cpu_s
from tests.bench.senders import Share, take_share
from tests.bench.watching import wait_count
from tests.support.gateway import mint
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess

_FIRST = 200  # mails that wake everybody, before the clock starts
_PART = 200  # items of a piece of the upload
_PATIENCE_S = 300.0
_LOOK_EVERY_S = 0.25  # a look counts all mails
_SETTLED = "SELECT count(*) FROM gateway.emails WHERE status = 'sent'"


async def publish_directly(servers: RealServers, mails: int) -> Figures:
    """The same mails published by somebody else, with the whole stack running; from the first to the last status."""
    with take_share(servers) as share:
        processes = await share.start_stack()
        topic, bootstrap_servers = share.topics.requested, share.stack.bootstrap_servers
        await publish_records(bootstrap_servers, topic, _FIRST, make_single)
        await wait_statuses(share, _FIRST, processes)
        started, cpu_s = time.monotonic(), measure_stack(processes)
        await publish_records(bootstrap_servers, topic, mails, make_single)
        await wait_statuses(share, _FIRST + mails, processes)
        figures = read_figures(started, cpu_s, mails, processes)
        return {**figures, "drained_per_s": figures["mails_per_s"]}  # they drain while they are being published


async def upload_batch(servers: RealServers, mails: int, *, shared: bool) -> Figures:
    """`POST /v1/batches`; from the first byte to the last status. `shared`: one content for all of them."""
    with take_share(servers) as share:
        caller = await mint(share.stack.database_url)
        processes = await share.start_stack()
        api = next(each for each in processes if each.name == "services.scheduler api")
        async with httpx.AsyncClient(base_url=api.url, headers=caller.headers, timeout=600) as client:
            await _upload(client, _FIRST, shared=shared)
            await wait_statuses(share, _FIRST, processes)
            started, cpu_s = time.monotonic(), measure_stack(processes)
            await _upload(client, mails, shared=shared)
            uploaded = time.monotonic()
            await wait_statuses(share, _FIRST + mails, processes)
            figures = read_figures(started, cpu_s, mails, processes)
        drained = time.monotonic() - uploaded
        return {**figures, "upload_s": uploaded - started, "drain_s": drained, "drained_per_s": mails / drained}


async def _upload(client: httpx.AsyncClient, mails: int, *, shared: bool) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await client.post("/v1/batches", content=_write(mails, shared=shared), headers=headers)
    if answer.status_code != 202 or answer.json()["accepted"] != mails:
        raise NotMeasured(f"the batch was not accepted: {answer.status_code} {answer.text[:500]}")


async def _write(mails: int, *, shared: bool) -> AsyncIterator[bytes]:
    for first in range(0, mails, _PART):
        yield b"".join(orjson.dumps(each) + b"\n" for each in _make(first, min(_PART, mails - first), shared=shared))


def _make(first: int, count: int, *, shared: bool) -> Sequence[dict[str, Any]]:
    if not shared:
        return [{name: value for name, value in make_mail(first + n).items() if name != "id"} for n in range(count)]
    content = orjson.loads(make_bulk(first // RECIPIENTS_PER_BULK)[1])
    content.pop("bulk_id")
    entries = content.pop("mails")
    return [{**content, **entries[n % len(entries)], "to": [f"user{first + n}@example.org"]} for n in range(count)]


async def wait_statuses(share: Share, mails: int, processes: Sequence[ServiceProcess]) -> None:
    """Until the read model shows so many as sent. Asked only once the relay has them: counting is work."""
    await wait_count(share.sink.count, mails, "mails at the sink", processes, patience_s=_PATIENCE_S)
    connection = await asyncpg.connect(share.stack.database_url)
    try:
        await wait_count(
            lambda: connection.fetchval(_SETTLED), mails, "mails shown as sent", processes, step_s=_LOOK_EVERY_S
        )
    finally:
        await connection.close()


def measure_stack(processes: Sequence[ServiceProcess]) -> float:
    """Seconds of CPU they have taken so far."""
    return measure_cpu_s([process.pid for process in processes])


def read_figures(started: float, cpu_s: float, mails: int, processes: Sequence[ServiceProcess]) -> Figures:
    """What it took since then."""
    seconds = time.monotonic() - started
    return {
        "seconds": seconds,
        "mails_per_s": mails / seconds,
        "cpu_us": (measure_stack(processes) - cpu_s) / mails * 1e6,
    }
