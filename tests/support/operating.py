"""One sender, its API and a scripted relay for all tests of a module, and everything the sender has told."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from aiokafka import AIOKafkaConsumer

from shared.access import ApiScope
from tests.support.events import Result, publish_json, to_result
from tests.support.gateway import mint
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.smtp import Answer, Script, SmtpServer, run_smtp
from tests.support.stack import Stack

QUICK = {"MILENA_RETRY_DELAYS": "1,1,1"}


@dataclass
class Plan:
    """What the relay answers and how long it takes, by the step and a word in its argument; else it takes the mail."""

    answers: dict[tuple[str, str], str] = field(default_factory=dict)
    delays: dict[tuple[str, str], float] = field(default_factory=dict)

    def answer(self, step: str, argument: str) -> Answer:
        """The script's answer."""
        found: Answer = _find(self.answers, step, argument)
        return found

    def delay(self, step: str, argument: str) -> float:
        """The script's delay."""
        return _find(self.delays, step, argument) or 0.0


def _find(known: dict[tuple[str, str], Any], step: str, argument: str) -> Any:
    return next((each for (when, word), each in known.items() if when == step and word in argument), None)


@dataclass
class Operated:
    """What a test has a hand on."""

    stack: Stack
    runner: ServiceRunner
    sender: ServiceProcess
    api: httpx.AsyncClient
    relay: SmtpServer
    plan: Plan
    results: dict[str, list[Result]] = field(default_factory=lambda: defaultdict(list))

    async def publish(self, count: int = 1, **fields: Any) -> list[str]:
        """Publish mails with these fields; returns their ids."""
        ids = [str(uuid4()) for _ in range(count)]
        mail = {"from": "no-reply@example.com", "to": ["ann@example.org"], "subject": "Hello", "text": "Hi"}
        await publish_json(self.stack, *(mail | {"id": each} | fields for each in ids))
        return ids

    def list_taken(self, ids: list[str]) -> list[str]:
        """Those of the ids that the relay has taken, in its order, each as often as it was taken."""
        taken = [each.message_id.strip("<>").partition("@")[0] for each in self.relay.taken]
        return [each for each in taken if each in ids]

    async def wait_taken(self, ids: list[str], timeout_s: float = 10) -> None:
        """Wait until the relay has taken each of them."""
        await wait_until(lambda: set(self.list_taken(ids)) == set(ids), timeout_s)

    async def wait_result(self, email_id: str, *reasons: str, timeout_s: float = 10) -> list[Result]:
        """Wait until exactly these have been told of a mail (`sent`, or a reason), in this order."""
        await wait_until(lambda: _name(self.results[email_id])[: len(reasons)] == list(reasons), timeout_s)
        return self.results[email_id]

    async def post(self, path: str, status: int = 200, **document: Any) -> Any:
        """POST JSON, expecting this status."""
        answer = await self.api.post(path, json=document)
        assert answer.status_code == status, self.runner.describe_logs() if answer.status_code == 500 else answer.text
        return answer.json()

    async def get(self, path: str, **params: Any) -> Any:
        """GET, expecting 200."""
        answer = await self.api.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()


def _name(results: list[Result]) -> list[str]:
    told: dict[str, str] = {each.ce_id: each.data.get("reason", "sent") for each in results}
    return list(told.values())


async def wait_until(holds: Callable[[], bool], timeout_s: float = 10) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def operate(real_servers: RealServers, *, with_api: bool = True, **env: str) -> AsyncIterator[Operated]:
    """Run `services.sender worker`, and unless asked not to `api`, on topics and a database of their own."""
    database, prefix = real_servers.create_database(), real_servers.create_topics()
    stack = Stack(real_servers.bootstrap_servers(), prefix, real_servers.postgres().database_url(database))
    runner, plan = ServiceRunner(stack.env(), preloaded=True), Plan()
    caller = await mint(stack.database_url, scopes=(ApiScope.OPERATE,), account="operators")
    async with run_smtp(Script(plan.answer, plan.delay)) as relay:
        try:
            sender = runner.start("services.sender", "worker", env={"MILENA_SMTP_PORT": str(relay.port)} | QUICK | env)
            api = runner.start("services.sender", "api") if with_api else sender
            await asyncio.gather(sender.wait_ready(60), api.wait_ready(60))
            async with httpx.AsyncClient(base_url=api.url, headers=caller.headers) as client:
                operated = Operated(stack, runner, sender, client, relay, plan)
                listening = asyncio.create_task(_listen(operated))
                yield operated
                listening.cancel()
                await asyncio.wait([listening])
        finally:
            await asyncio.to_thread(runner.stop_all)
            real_servers.drop_topics(prefix)
            real_servers.drop_database(database)


async def _listen(operated: Operated) -> None:
    topics = operated.stack.topics
    consumer = AIOKafkaConsumer(
        topics.sent, topics.failed, bootstrap_servers=operated.stack.bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async for record in consumer:
            result = to_result(record)
            operated.results[json.loads(record.value).get("id")].append(result)
    finally:
        await consumer.stop()
