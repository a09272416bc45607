"""A file of contacts into a real process: how fast, in how much memory, and that breaking off costs nothing."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import httpx
import psutil

from services.scheduler.contacts.identity import identify_recipient
from shared.access import ApiScope
from tests.bench.figures import Figures, NotMeasured
from tests.support.gateway import mint
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.stack import Stack

_PART = 2_000  # rows of a piece of the upload
_BAD_EVERY = 100
_ACCOUNT = "default"
_HEAD = b"address,name,timezone,tags,plan,customer\n"
_PAGES = {"tag": {"tag": "rare"}, "attribute": {"attribute": "customer:7"}, "nobody": {"attribute": "plan:none"}}


async def import_contacts(servers: RealServers, rows: int) -> Figures:
    """`rows` of which every hundredth is bad: killed half way, sent again, and once more when nothing is new.

    Raises NotMeasured where the contacts are not those of the file, or a bad row is not told.
    """
    async with _serve(servers) as (client, api, database_url):
        figures = {"rows": float(rows)}
        with _watch_memory(api) as memory:
            await _import(client, rows // 10)
            figures["small_peak_mb"] = memory["peak_mb"]
        await _break_off(client, api, rows)
        await api.wait_ready(60)
        with _watch_memory(api) as memory:
            figures |= _name(await _import(client, rows), "resumed")
            await _check(database_url, rows)
            figures |= _name(await _import(client, rows), "again")
            figures["export_s"] = await _export(client, rows)
            figures |= memory
        for name, params in _PAGES.items():
            figures[f"page_{name}_ms"] = await _read_page(client, params)
        return figures


async def import_new(servers: RealServers, rows: int) -> Figures:
    """The same file, every row of it new."""
    async with _serve(servers) as (client, api, _):
        with _watch_memory(api) as memory:
            seconds = (await _import(client, rows))["seconds"]
            return {"rows": rows, "seconds": seconds, "rows_per_s": rows / seconds, **memory}


@asynccontextmanager
async def _serve(servers: RealServers) -> AsyncIterator[tuple[httpx.AsyncClient, ServiceProcess, str]]:
    """The scheduler's API on a database of its own, a client with a key, and the database's URL. It needs no Kafka."""
    name = servers.create_database()
    stack = Stack("127.0.0.1:1", "", servers.postgres().database_url(name))
    runner = ServiceRunner({**stack.env(), "MILENA_LOG_LEVEL": "WARNING"})
    try:
        caller = await mint(stack.database_url, scopes=[ApiScope.MAILINGS_ADMIN], account=_ACCOUNT)
        api = runner.start("services.scheduler", "api")
        await api.wait_ready(60)
        async with httpx.AsyncClient(base_url=api.url, headers=caller.headers, timeout=3600) as client:
            yield client, api, stack.database_url
    finally:
        runner.stop_all()
        servers.drop_database(name)


def write_row(number: int) -> bytes:
    """A row of the file."""
    if number % _BAD_EVERY == 0:
        return b"nobody%d,Nobody,,,,\n" % number
    tags = b"customer;rare" if number % 10_007 == 1 else b"customer"
    name = b'"User, %d"' % number if number % 3 else b"User %d" % number
    return b"user%d@example.org,%s,Europe/Berlin,%s,pro,%d\n" % (number, name, tags, number)


async def _write(rows: int) -> AsyncIterator[bytes]:
    yield _HEAD
    for first in range(0, rows, _PART):
        yield b"".join(map(write_row, range(first, min(first + _PART, rows))))


async def _import(client: httpx.AsyncClient, rows: int) -> Any:
    headers = {"Content-Type": "text/csv"}
    started = time.monotonic()
    answer = await client.post("/v1/contacts/import", content=_write(rows), headers=headers)
    if answer.status_code != 200 or (answer.json()["rows"], answer.json()["invalid"]) != (rows, _count_bad(rows)):
        raise NotMeasured(f"the import was not as it should be: {answer.status_code} {answer.text[:500]}")
    return answer.json() | {"seconds": time.monotonic() - started}


async def _break_off(client: httpx.AsyncClient, api: ServiceProcess, rows: int) -> None:
    """Kill the process when half of the rows are stored."""
    upload = asyncio.create_task(_import(client, rows))
    while not upload.done():
        page = (await client.get("/v1/contacts/imports", params={"limit": 1})).json()
        if page["data"][0]["rows"] > rows // 2:
            api.kill()
            break
        await asyncio.sleep(0.2)
    with contextlib.suppress(httpx.HTTPError):
        await upload
        raise NotMeasured("the upload was over before it could be cut off")
    api.restart()


async def _check(database_url: str, rows: int) -> None:
    """The contacts are those of the file, and every bad row is told."""
    connection = await asyncpg.connect(database_url)
    try:
        found = {row["id"] for row in await connection.fetch("SELECT id FROM scheduler.contact")}
        wanted = {identify_recipient(_ACCOUNT, f"user{n}@example.org") for n in range(rows) if n % _BAD_EVERY}
        told = await connection.fetchval(
            "SELECT count(DISTINCT row) FROM scheduler.contact_import_problem WHERE import = "
            "(SELECT id FROM scheduler.contact_import WHERE state = 'finished' ORDER BY created_at DESC LIMIT 1)"
        )
    finally:
        await connection.close()
    if found != wanted or told != _count_bad(rows):
        raise NotMeasured(f"{len(found ^ wanted)} contacts are not those of the file, {told} bad rows are told")


async def _export(client: httpx.AsyncClient, rows: int) -> float:
    started, lines = time.monotonic(), 0
    async with client.stream("GET", "/v1/contacts/export") as answer:
        async for part in answer.aiter_bytes():
            lines += part.count(b"\n")
    if lines != rows - _count_bad(rows) + 1:
        raise NotMeasured(f"{lines} lines were exported")
    return time.monotonic() - started


async def _read_page(client: httpx.AsyncClient, params: dict[str, str]) -> float:
    """The slowest of some."""
    took = []
    for _ in range(8):
        started = time.monotonic()
        (await client.get("/v1/contacts", params=params)).raise_for_status()
        took.append(time.monotonic() - started)
    return max(took) * 1000


def _count_bad(rows: int) -> int:
    return -(-rows // _BAD_EVERY)


def _name(taken: Any, name: str) -> Figures:
    counts = {f"{name}_{each}": float(taken[each]) for each in ("created", "changed", "unchanged")}
    return {**counts, f"{name}_s": taken["seconds"], f"{name}_rows_per_s": taken["rows"] / taken["seconds"]}


@contextmanager
def _watch_memory(api: ServiceProcess) -> Iterator[Figures]:
    """The process's peak, in `peak_mb`, looked at five times a second."""
    figures = {"peak_mb": 0.0}

    async def look() -> None:
        process = psutil.Process(api.pid)
        while True:
            figures["peak_mb"] = max(figures["peak_mb"], process.memory_info().rss / 1e6)
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(look())
    try:
        yield figures
    finally:
        watching.cancel()
