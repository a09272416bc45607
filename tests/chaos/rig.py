"""One scenario's ground: topics and a database of its own, a relay, senders under supervision, and all that was asked.

Nothing of the code under test judges here: what was sent is what the relay took.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
from aiokafka import AIOKafkaProducer

from tests.support.servers import RealServers
from tests.support.services import ServiceRunner
from tests.support.smtp import Script, SmtpServer, run_smtp
from tests.support.stack import Stack
from tests.support.supervised import Supervised

SENDER_ADDRESS = "no-reply@example.com"
_WORDS = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor.\n" * 4
_LOOK_S = 0.05
_PORTION_EVERY_S = 2.0
CLAIMS = "milena_claims_total"
_STANDING = """
SELECT count(*) FILTER (WHERE state = 'settled' AND id = ANY($1::uuid[])) AS settled,
       count(*) FILTER (WHERE state <> 'settled') AS open, (SELECT count(*) FROM sender.due) AS due
FROM sender.ledger
"""


@dataclass
class Rig:
    """`accepted`: email id → recipients, of every mail Kafka holds; `maybe`: of those whose acceptance is unknown."""

    stack: Stack
    relay: SmtpServer
    services: ServiceRunner
    senders: list[Supervised] = field(default_factory=list)
    others: list[Supervised] = field(default_factory=list)
    accepted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    maybe: dict[str, tuple[str, ...]] = field(default_factory=dict)
    kills: int = 0
    exits_s: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    # --- processes ---

    async def start_sender(self, slot: int, **env: str) -> Supervised:
        """A sender process with a restart policy, ready."""
        settings = {"MILENA_SMTP_PORT": str(self.relay.port), "MILENA_SLOT": str(slot), **env}
        sender = Supervised(self.services.start("services.sender", "worker", env=settings))
        self.senders.append(sender)
        await sender.wait_ready()
        return sender

    async def start_other(self, *command: str, **env: str) -> Supervised:
        """Another service's process with a restart policy, ready."""
        other = Supervised(self.services.start(*command, env=env))
        self.others.append(other)
        await other.wait_ready()
        return other

    async def kill(self, sender: Supervised) -> None:
        """SIGKILL at a moment when claims are open."""
        await self.wait_claims_open()
        sender.kill()
        self.kills += 1

    async def terminate(self, sender: Supervised, *, again: bool = False) -> None:
        """SIGTERM to a ready process; how long the exit took is kept. With `again` it starts anew."""
        await sender.wait_ready()  # before it has installed its handlers SIGTERM kills it, which proves nothing
        self.exits_s.append(await sender.terminate())
        if again:
            sender.start_again()

    async def close(self) -> list[BaseException]:
        """End every process; gives what went wrong in watching them."""
        ends = [each.stop() for each in [*self.senders, *self.others]]
        self.senders, self.others = [], []
        return [each for each in await asyncio.gather(*ends, return_exceptions=True) if each]

    # --- load ---

    async def publish(self, count: int, *, over_s: float = 0.0, size: int = 0) -> None:
        """Put mails on the topic, one in ten to three recipients, spread over `over_s` seconds.

        A mail is accepted once the broker has acknowledged it. `size`: bytes of text at least.
        """
        producer = AIOKafkaProducer(
            bootstrap_servers=self.stack.bootstrap_servers,
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            compression_type="lz4",
            max_request_size=2_000_000,
        )
        await producer.start()
        try:
            began, acks = time.monotonic(), []
            for number in range(count):
                mail = make_mail(number, size)
                value, key = orjson.dumps(mail), mail["id"].encode()
                acks.append((mail, await producer.send(self.stack.topics.requested, value, key=key)))
                ahead = over_s * number / count - (time.monotonic() - began)
                if ahead > 0:
                    await asyncio.sleep(ahead)
            for mail, ack in acks:
                await ack
                self.accepted[mail["id"]] = tuple(mail["to"])
        finally:
            await producer.stop()

    @asynccontextmanager
    async def loaded(self, portion: int) -> AsyncIterator[None]:
        """Mail for as long as this lasts: a portion at once, and another every two seconds."""
        over = asyncio.Event()

        async def keep_up() -> None:
            while not over.is_set():
                await self.publish(portion)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), _PORTION_EVERY_S)

        load = asyncio.create_task(keep_up())
        try:
            yield
        finally:
            over.set()
            await load

    # --- waiting ---

    async def wait_taken(self, count: int, timeout_s: float = 120) -> None:
        """Until the relay has taken so many mails, doubles counted."""
        await self.relay.wait_taken(count, timeout_s)

    async def wait_everybody(self, timeout_s: float) -> bool:
        """Until the relay has taken every accepted mail for every recipient; False when time is over first."""
        due = {(message_id(each), to) for each, recipients in self.accepted.items() for to in recipients}

        async def everybody() -> bool:
            return due <= self.relay.counts.keys()

        try:
            await wait_until(everybody, timeout_s, "everybody")
        except AssertionError:
            return False
        return True

    async def wait_claims_open(self, count: int = 1, timeout_s: float = 60) -> None:
        """Until so many mails are claimed in the ledger and one of them lies at the relay without an answer."""

        async def is_open() -> bool:
            if not self.relay.at_dot:
                return False
            rows = await self.fetch("SELECT count(*) AS n FROM sender.ledger WHERE state = 'claimed'")
            return bool(rows[0]["n"] >= count) and self.relay.at_dot > 0

        await wait_until(is_open, timeout_s, "open claims")

    async def count_claims(self, sender: Supervised) -> float:
        """How many mails that nobody had this process has claimed."""
        await sender.scrape()
        return sender.count(CLAIMS)['{found="new"}']

    async def wait_claiming(self, sender: Supervised, beyond: float, timeout_s: float = 60) -> None:
        """Until this process has claimed more than `beyond`. Let the load go on meanwhile: others claim it, too."""

        async def has_claimed() -> bool:
            return await self.count_claims(sender) > beyond

        await wait_until(has_claimed, timeout_s, "a claim of its own")

    async def wait_finished(self, timeout_s: float) -> bool:
        """Until the ledger has settled everything and nothing waits any more; False when time is over first."""

        async def finished() -> bool:
            with contextlib.suppress(OSError, asyncpg.PostgresError, TimeoutError):
                (row,) = await self.fetch(_STANDING, list(map(UUID, self.accepted)))
                return bool(row["settled"] == len(self.accepted) and row["open"] == row["due"] == 0)
            return False

        try:
            await wait_until(finished, timeout_s, "the end", every_s=0.25)
        except AssertionError:
            return False
        return True

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """One statement on a connection of its own."""
        connection = await asyncpg.connect(self.stack.database_url, timeout=5, command_timeout=10)
        try:
            return list(await connection.fetch(sql, *args))
        finally:
            await connection.close(timeout=5)


async def wait_until(condition: Callable[[], Any], timeout_s: float, what: str, *, every_s: float = _LOOK_S) -> None:
    """Ask an async condition again and again. Raises AssertionError when time is over."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what} in vain"
        await asyncio.sleep(every_s)


def message_id(email_id: str) -> str:
    """The Message-ID of a mail (R12)."""
    return f"<{email_id}@{SENDER_ADDRESS.partition('@')[2]}>"


def make_mail(number: int, size: int = 0) -> dict[str, Any]:
    """A small multipart mail with an id of its own; every tenth has three recipients. `size`: of the text at least."""
    names = [f"u{number}"] if number % 10 else [f"u{number}", f"v{number}", f"w{number}"]
    return {
        "id": str(uuid4()),
        "from": SENDER_ADDRESS,
        "to": [f"{name}@example.org" for name in names],
        "subject": f"Your order {number} is on its way",
        "text": _WORDS * max(1, -(-size // len(_WORDS))),
        "html": f"<p>{_WORDS}</p>",
    }


@asynccontextmanager
async def open_rig(
    servers: RealServers,
    *,
    script: Script | None = None,
    env: Mapping[str, str] | None = None,
    preloaded: bool = False,
) -> AsyncIterator[Rig]:
    """Topics, database, relay; everything started in it has ended when it closes. `preloaded`: see ServiceRunner."""
    prefix, database = servers.create_topics(results=12), servers.create_database()
    stack = Stack(servers.bootstrap_servers(), prefix, servers.postgres().database_url(database))
    settings = {**stack.env(), "MILENA_RETRY_DELAYS": "1,2,5,10", **(env or {})}
    runner = ServiceRunner(settings, preloaded=preloaded)
    async with run_smtp(script) as relay:
        rig = Rig(stack, relay, runner)
        try:
            yield rig
        finally:
            faults = await rig.close()
            await asyncio.to_thread(runner.stop_all)
            await asyncio.to_thread(servers.drop_topics, prefix)
            await asyncio.to_thread(servers.drop_database, database)
            assert not faults, faults
