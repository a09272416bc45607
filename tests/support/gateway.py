"""What tests of the gateway share: keys, mails, and an API process that serves a whole module."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer

from shared.access import AccessStore, ApiKey, ApiScope
from shared.database import Database
from tests.support.servers import RealServers, run_apart
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.stack import Stack

SIMPLE: dict[str, Any] = {
    "from": "no-reply@example.com",
    "to": "addr1@gmail.com,addr2@hotmail.com",
    "subject": "Grüße",
    "text_content": "Hello",
    "html_content": "<strong>Hello</strong>",
    "callback": "https://wms.server/send-email/callback/?checkout-id=12",
}
FULL: dict[str, Any] = {
    "from": "Shop <no-reply@example.com>",
    "to": ["Ann <ann@example.org>"],
    "subject": "Hello",
    "html": "<p>Hello</p>",
    "text": "Hello",
}


@dataclass(frozen=True)
class Caller:
    """A key, and requests made with it."""

    secret: str
    key: ApiKey

    @property
    def headers(self) -> dict[str, str]:
        """The Authorization header."""
        return {"Authorization": f"Bearer {self.secret}"}


def make_key(*senders: str) -> ApiKey:
    """A key that may send from `senders`, for tests without a database."""
    return ApiKey("k", "default", "n", "mk_x…", frozenset({ApiScope.EMAILS_SEND}), senders, datetime.now(UTC))


async def mint(
    database_url: str,
    *senders: str,
    scopes: Sequence[ApiScope] = (ApiScope.EMAILS_SEND, ApiScope.EMAILS_READ),
    account: str = "default",
    **options: Any,
) -> Caller:
    """Create a key (and its account); `options` as of AccessStore.create_key."""
    database = Database(database_url, pool_size=1)
    try:
        await database.fetch("INSERT INTO access.accounts (name) VALUES ($1) ON CONFLICT DO NOTHING", account)
        secret, key = await AccessStore(database).create_key(
            account, "test", scopes=scopes, senders=senders or ("*@example.com",), **options
        )
        return Caller(secret, key)
    finally:
        await database.close()


async def revoke(database_url: str, caller: Caller) -> None:
    """Revoke a caller's key."""
    database = Database(database_url, pool_size=1)
    try:
        await AccessStore(database).revoke_key(caller.key.id)
    finally:
        await database.close()


async def read_requests(stack: Stack) -> list[Any]:
    """Every record that lies on email.requested now, as aiokafka gives it."""
    consumer = AIOKafkaConsumer(
        stack.topics.requested,
        bootstrap_servers=stack.bootstrap_servers,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=2_000_000,
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        found: list[Any] = []
        while sum(ends.values()) > len(found):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
        return found
    finally:
        await consumer.stop()


@contextmanager
def serve_gateway(
    real_servers: RealServers, *commands: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[Stack, list[ServiceProcess]]]:
    """The gateway's `api` (or other commands) on topics and a database of its own, for all tests of a module."""
    database, prefix = real_servers.create_database(), real_servers.create_topics()
    stack = Stack(real_servers.bootstrap_servers(), prefix, real_servers.postgres().database_url(database))
    runner = ServiceRunner(stack.env(), preloaded=True)
    try:
        processes = [runner.start("services.gateway", command, env=env) for command in commands]
        for process in processes:
            run_apart(process.wait_ready(60))
        yield stack, processes
    finally:
        runner.stop_all()
        real_servers.drop_topics(prefix)
        real_servers.drop_database(database)


@dataclass(frozen=True)
class Api:
    """One API process for a module, and a caller known to it."""

    stack: Stack
    process: ServiceProcess
    caller: Caller


@contextmanager
def serve_api(real_servers: RealServers) -> Iterator[Api]:
    """The gateway's API, as `serve_gateway` starts it."""
    with serve_gateway(real_servers, "api") as (stack, (process,)):
        yield Api(stack, process, run_apart(mint(stack.database_url)))


async def poll(client: httpx.AsyncClient, path: str, wanted: Any, timeout_s: float = 15, **options: Any) -> Any:
    """GET until `wanted(document)` holds; gives the document."""
    deadline = time.monotonic() + timeout_s
    answer = None
    while time.monotonic() < deadline:
        answer = await client.get(path, **options)
        if answer.status_code == 200 and wanted(answer.json()):
            return answer.json()
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path} never came to what was wanted: {answer and answer.text}")
