"""Where the kill matrix takes place: one stack for many cells, a sender that is hurt and another that is not."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import orjson
import psutil
from aiokafka import AIOKafkaProducer

from deploy.local.ports import find_free_port
from tests.chaos.cells import Cell
from tests.chaos.rig import Rig, wait_until
from tests.chaos.scene import Assignments, Ends, Whims, follow_ends, name_place, open_assignments
from tests.support.services import ServiceProcess
from tests.support.supervised import Supervised

LEASE_S = 3.0
DEFERRED_S = 2.0  # before a deferred mail is tried again: time enough to send it into the victim's arms
VICTIM, BYSTANDER = 0, 1
_WAITING = """
SELECT count(*) AS n FROM sender.due
WHERE id = ANY($1::uuid[]) AND kind = 'deferred' AND announced AND lease_token IS NULL
"""
_LEASED = "SELECT count(*) AS n FROM sender.due WHERE id = ANY($1::uuid[]) AND lease_token IS NOT NULL"
_OVER = """
SELECT (SELECT count(*) FROM sender.ledger WHERE id = ANY($1::uuid[]) AND state = 'settled') AS settled,
       (SELECT count(*) FROM sender.due WHERE id = ANY($1::uuid[])) AS due
"""
_UNKNOWNS = "SELECT id, unknowns FROM sender.ledger WHERE id = ANY($1::uuid[]) AND unknowns > 0"


@dataclass
class Ground:
    """`armed`: the cells whose faults are still to come; each generation of the victim is armed for all of them."""

    rig: Rig
    whims: Whims
    ends: Ends
    assignments: Assignments
    producer: AIOKafkaProducer
    bystander: Supervised
    armed: list[Cell]
    env: dict[str, str]
    victims: list[ServiceProcess] = field(default_factory=list)

    @property
    def victim(self) -> ServiceProcess:
        """Its present generation."""
        return self.victims[-1]

    @property
    def is_struck(self) -> bool:
        """Whether the victim has met its fault: it is gone, or stands still."""
        return self.victim.returncode is not None or is_frozen(self.victim)

    def start_victim(self) -> None:
        """A generation of the sender that is hurt; ready soon."""
        armed = ",".join(cell.failpoint for cell in self.armed if not cell.on_wire)
        env = {**self.env, "MILENA_SLOT": str(VICTIM), "MILENA_TEST_FAILPOINTS": armed}
        self.victims.append(self.rig.services.start("services.sender", "worker", env=env))

    async def ensure_victim(self) -> None:
        """It lives, is no longer frozen, and has read its way into the group."""
        if not self.victims or self.victim.returncode is not None:
            self.start_victim()
        wake(self.victim.pid)
        await self.victim.wait_ready(90)
        await self.assignments.wait_partitions(VICTIM)

    async def drop_victim(self) -> None:
        """However it is: gone. The next cell begins with a fresh one."""
        if self.victims and self.victim.returncode is None:
            await asyncio.to_thread(self.victim.kill)

    async def publish(self, records: Iterable[dict[str, Any]], slot: int) -> list[str]:
        """Into the partitions that one process holds; acknowledged by the broker. Returns where they lie."""
        partitions = await self.assignments.wait_partitions(slot)
        send = partial(self.producer.send, self.rig.stack.topics.requested)
        acks = [
            await send(orjson.dumps(record), partition=partitions[number % len(partitions)])
            for number, record in enumerate(records)
        ]
        places = [await ack for ack in acks]
        return [name_place(each.partition, each.offset) for each in places]

    async def wait_deferred(self, ids: Iterable[str], timeout_s: float = 30) -> None:
        """Until all of them wait for their next attempt, and nobody is at work on them."""
        wanted = list(map(UUID, ids))

        async def waiting() -> bool:
            return await self._count(_WAITING, wanted) == len(wanted)

        await wait_until(waiting, timeout_s, "deferred mails", every_s=0.02)

    async def wait_taken_on(self, ids: Iterable[str], timeout_s: float) -> None:
        """Until somebody has taken all of them on, or the victim has met its fault with some of them."""

        async def taken_on() -> bool:
            return self.is_struck or await self._count(_LEASED, wanted) == len(wanted)

        wanted = list(map(UUID, ids))
        await wait_until(taken_on, timeout_s, "due rows taken on", every_s=0.02)

    async def _count(self, sql: str, wanted: list[UUID]) -> int:
        (row,) = await self.rig.fetch(sql, wanted)
        return int(row["n"])

    async def wait_over(self, ids: Iterable[str], places: Iterable[str], timeout_s: float) -> bool:
        """Until each has its end on the topics and in the ledger, and no row waits; False when time is over first."""
        wanted, told = list(map(UUID, ids)), {*ids, *places}
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if told <= self.ends.by_id.keys():
                (row,) = await self.rig.fetch(_OVER, wanted)
                if row["settled"] == len(wanted) and row["due"] == 0 and not self.rig.relay.at_dot:
                    return True
            await asyncio.sleep(0.05)
        return False

    async def read_unknowns(self, ids: Iterable[str]) -> dict[str, int]:
        """How often the outcome of each was unknown; those that never were are left out."""
        rows = await self.rig.fetch(_UNKNOWNS, list(map(UUID, ids)))
        return {str(row["id"]): row["unknowns"] for row in rows}


def is_frozen(process: ServiceProcess) -> bool:
    """Whether it stands still."""
    try:
        return process.returncode is None and psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


def freeze(pid: int) -> None:
    """SIGSTOP."""
    os.kill(pid, signal.SIGSTOP)


def wake(pid: int) -> None:
    """SIGCONT; does nothing to a process that runs."""
    os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def open_ground(rig: Rig, whims: Whims, cells: list[Cell]) -> AsyncIterator[Ground]:
    """Two senders, the first of them armed; both have ended when it closes."""
    env = _describe_sender(rig.relay.port)
    rig.relay.script = whims.write_script()
    async with AsyncExitStack() as stack:
        producer = AIOKafkaProducer(bootstrap_servers=rig.stack.bootstrap_servers, acks="all", enable_idempotence=True)
        await producer.start()
        stack.push_async_callback(producer.stop)
        ends = await stack.enter_async_context(follow_ends(rig.stack))
        assignments = await stack.enter_async_context(open_assignments(rig.stack))
        bystander = Supervised(
            rig.services.start("services.sender", "worker", env={**env, "MILENA_SLOT": str(BYSTANDER)})
        )
        rig.senders.append(bystander)
        ground = Ground(rig, whims, ends, assignments, producer, bystander, list(cells), env)
        ground.start_victim()
        try:
            await bystander.wait_ready()
            await assignments.wait_partitions(BYSTANDER)
            yield ground
        finally:
            if bystander.process.returncode is None:
                wake(bystander.process.pid)
            await ground.drop_victim()


def _describe_sender(port: int) -> dict[str, str]:
    """A second relay that nobody answers at: with one alone no mail is parked for waiting long (P9)."""
    relays = [
        {"name": "main", "host": "127.0.0.1", "port": port, "connections": 8},
        {"name": "away", "host": "127.0.0.1", "port": find_free_port(), "connections": 1},
    ]
    return {
        "MILENA_RELAYS": json.dumps(relays),
        "MILENA_TEST_LEASE": str(LEASE_S),
        "MILENA_CLAIMS_PER_CONNECTION": "6",
        "MILENA_RETRY_DELAYS": f"{DEFERRED_S},1,1,2,2,5,5",
    }
