"""A mailing through the whole stack: from its start until it is finished, and what the same mails take alone."""

import time
from collections.abc import Sequence

import asyncpg
import httpx
import orjson

from services.scheduler.contacts.identity import identify_recipient
from shared.access import ApiScope
from tests.bench.figures import Figures, NotMeasured
from tests.bench.mails import RECIPIENTS_PER_BULK, make_bulk, publish_records
from tests.bench.senders import Share, take_share
from tests.bench.uploads import measure_stack, read_figures, wait_statuses
from tests.bench.watching import wait_count
from tests.support.gateway import mint
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess

_FIRST = 200  # mails that wake everybody, before the clock starts
_MAILINGS = 5
_WAITING = "SELECT count(*) FILTER (WHERE state = 'finished') FROM scheduler.mailing"


async def publish_bulk_directly(servers: RealServers, mails: int) -> Figures:
    """The same mails as bulk events of somebody else's, not paced, with the same stack; to the last status."""
    with take_share(servers, dumping=True) as share:
        processes = await _start(share)
        topic, bootstrap_servers = share.topics.requested, share.stack.bootstrap_servers
        await publish_records(bootstrap_servers, topic, _FIRST // RECIPIENTS_PER_BULK, make_bulk)
        await wait_statuses(share, _FIRST, processes)
        started, cpu_s = time.monotonic(), measure_stack(processes)
        await publish_records(bootstrap_servers, topic, mails // RECIPIENTS_PER_BULK, make_bulk)
        await wait_statuses(share, _FIRST + mails, processes)
        return read_figures(started, cpu_s, mails, processes)


async def send_mailing(servers: RealServers, mails: int) -> Figures:
    """`POST /v1/mailings/{id}/start` of a mailing to so many contacts; until it says that it is finished."""
    with take_share(servers, dumping=True) as share:
        caller = await mint(share.stack.database_url, scopes=[ApiScope.MAILINGS_ADMIN])
        processes = await _start(share)
        api = next(each for each in processes if each.name == "services.scheduler api")
        connection = await asyncpg.connect(share.stack.database_url)
        try:
            async with httpx.AsyncClient(base_url=api.url, headers=caller.headers, timeout=60) as client:
                await _add_contacts(connection, "first", _FIRST)
                await _add_contacts(connection, "many", mails)
                await _start_mailing(client, "first")
                await _wait_finished(connection, 1, processes)
                started, cpu_s = time.monotonic(), measure_stack(processes)
                path = await _start_mailing(client, "many")
                await _wait_finished(connection, 2, processes)
                figures = read_figures(started, cpu_s, mails, processes)
                await _check(client, path, share, mails)
            frozen_s = await connection.fetchval(
                "SELECT extract(epoch FROM frozen_at - started_at)::float8 FROM scheduler.mailing WHERE name = 'many'"
            )
        finally:
            await connection.close()
        await wait_statuses(share, _FIRST + mails, processes)
        return {**figures, "frozen_s": frozen_s}


async def start_five(share: Share, mails: int) -> None:
    """Start five mailings to so many contacts together."""
    caller = await mint(share.stack.database_url, scopes=[ApiScope.MAILINGS_ADMIN])
    services = [share.runner.start("services.scheduler", "jobs"), share.runner.start("services.scheduler", "api")]
    for service in services:
        await service.wait_ready(60)
    connection = await asyncpg.connect(share.stack.database_url)
    try:
        async with httpx.AsyncClient(base_url=services[-1].url, headers=caller.headers, timeout=60) as client:
            for number in range(_MAILINGS):
                await _add_contacts(connection, f"group-{number}-", mails // _MAILINGS)
            for number in range(_MAILINGS):
                await _start_mailing(client, f"group-{number}-")
    finally:
        await connection.close()


async def _check(client: httpx.AsyncClient, path: str, share: Share, mails: int) -> None:
    """Everybody has had one mail, and the counts say so. Raises NotMeasured."""
    taken = share.sink.count_recipients()
    expected = {
        f"{tag}{number}@example.org" for tag, count in (("first", _FIRST), ("many", mails)) for number in range(count)
    }
    if taken.keys() != expected or taken.total() != len(expected):
        missing, more = len(expected - taken.keys()), taken.total() - len(taken)
        raise NotMeasured(f"at the sink {missing} recipients are missing, {more} mails are doubles")
    mailing = (await client.get(path)).json()
    counts = {name: mailing["counts"][name] for name in ("pending", "success", "fail")}
    if mailing["state"] != "finished" or counts != {"pending": 0, "success": mails, "fail": 0}:
        raise NotMeasured(f"the mailing is {mailing['state']} and counts {counts}")


async def _start(share: Share) -> list[ServiceProcess]:
    processes = [*await share.start_stack(), share.runner.start("services.scheduler", "jobs")]
    await processes[-1].wait_ready(60)
    return processes


async def _add_contacts(connection: asyncpg.Connection, tag: str, count: int) -> None:
    rows = [
        (
            identify_recipient("default", f"{tag}{number}@example.org"),
            "default",
            f"{tag}{number}@example.org",
            f"User {number}",
            [tag],
            f'{{"order": {number}}}',
        )
        for number in range(count)
    ]
    names = ["id", "account", "address", "name", "tags", "attributes"]
    await connection.copy_records_to_table("contact", schema_name="scheduler", records=rows, columns=names)
    await connection.execute("ANALYZE scheduler.contact")


async def _start_mailing(client: httpx.AsyncClient, tag: str) -> str:
    event = orjson.loads(make_bulk(0)[1])
    content = {name: event[name] for name in ("from", "subject", "text", "html")}
    body = {"name": tag, "content": content, "audience": {"tags": {"any": [tag]}}}
    made = await client.post("/v1/mailings", json=body)
    answer = await client.post(f"/v1/mailings/{made.json().get('id')}/start")
    if answer.status_code != 202:
        raise NotMeasured(f"the mailing was not started: {made.text[:300]} {answer.text[:300]}")
    return f"/v1/mailings/{made.json()['id']}"


async def _wait_finished(connection: asyncpg.Connection, count: int, processes: Sequence[ServiceProcess]) -> None:
    await wait_count(lambda: connection.fetchval(_WAITING), count, "mailings finished", processes, patience_s=300)
