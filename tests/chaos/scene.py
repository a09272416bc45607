"""What the kill matrix plays on: who holds which partition, the relay's whims, and the ends that the topics tell."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from tests.chaos.cells import AT_CONTENT, AT_DOT
from tests.chaos.rig import wait_until
from tests.support.smtp import Script
from tests.support.stack import Stack

QUICK_S = 0.01


@dataclass
class Whims:
    """How the relay behaves at the moment. `busy`: addresses that get 451 once; `refusing`: 421 to every mail."""

    busy: set[str] = field(default_factory=set)
    refusing: bool = False
    content_s: float = 0.0
    dot_s: float = QUICK_S
    _met: Counter[str] = field(default_factory=Counter)

    def write_script(self) -> Script:
        """For the relay."""
        return Script(answer=self._answer, delay=self._delay)

    def calm_down(self) -> None:
        """A relay as it should be."""
        self.busy, self.refusing = set(), False
        self.content_s, self.dot_s = 0.0, QUICK_S

    async def wait_met(self, moment: str, times: int, timeout_s: float) -> None:
        """Until so many mails more have come to that moment."""
        wanted = self._met[moment] + times

        async def met() -> bool:
            return self._met[moment] >= wanted

        await wait_until(met, timeout_s, moment, every_s=0.002)

    def _answer(self, step: str, argument: str) -> str | None:
        if step == "mail" and self.refusing:
            return "421 4.3.2 not now"
        if step == "rcpt" and argument in self.busy:
            self.busy.discard(argument)
            return "451 4.2.1 later"
        return None

    def _delay(self, step: str, argument: str) -> float:
        if step == "data":
            self._met[AT_CONTENT] += 1
            return self.content_s
        if step == "dot":
            self._met[AT_DOT] += 1
            return self.dot_s
        return 0.0


@dataclass(frozen=True)
class End:
    """How a mail ended, and when that was read (monotonic)."""

    sent: bool
    reason: str | None
    at: float


def name_place(partition: int, offset: int) -> str:
    """A record's place on email.requested."""
    return f"{partition}/{offset}"


@dataclass
class Ends:
    """The completing event of each mail, read from the topics as they come. `told`: how many distinct ones it has.

    A record that is refused is known by its place, `partition/offset`: it need not have an id.
    """

    by_id: dict[str, End] = field(default_factory=dict)
    told: dict[str, set[str]] = field(default_factory=dict)

    async def follow(self, stack: Stack) -> None:
        """Until cancelled."""
        topics = (stack.topics.sent, stack.topics.failed)
        consumer = AIOKafkaConsumer(
            *topics, bootstrap_servers=stack.bootstrap_servers, auto_offset_reset="earliest", fetch_max_wait_ms=50
        )
        await consumer.start()
        try:
            while True:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    for record in records:
                        self._take(orjson.loads(record.value), dict(record.headers))
        finally:
            await consumer.stop()

    def _take(self, event: dict[str, Any], headers: dict[str, bytes]) -> None:
        refused = event.get("reason") == "invalid_request"
        if not refused and not event.get("complete"):
            return
        name = name_place(event["source"]["partition"], event["source"]["offset"]) if refused else str(event["id"])
        self.told.setdefault(name, set()).add(headers["ce_id"].decode())
        sent = headers["ce_type"] == b"email.sent"
        self.by_id.setdefault(name, End(sent, str(event.get("reason")), time.monotonic()))


class Assignments:
    """Which partitions the members of the senders' group hold, as the broker sees it."""

    def __init__(self, admin: AIOKafkaAdminClient, stack: Stack) -> None:
        self._admin = admin
        self._group = f"{stack.topic_prefix}milena-sender"

    async def wait_partitions(self, slot: int, timeout_s: float = 60) -> list[int]:
        """Those of one process, once the group is stable and it has some."""
        found: list[int] = []

        async def has_some() -> bool:
            found[:] = await self._find(slot)
            return bool(found)

        await wait_until(has_some, timeout_s, f"partitions of sender {slot}", every_s=0.1)
        return sorted(found)

    async def _find(self, slot: int) -> list[int]:
        (response,) = await self._admin.describe_consumer_groups([self._group])
        ((_, _, state, _, _, members, *_),) = response.groups
        if state != "Stable":
            return []
        mine = [member[4] for member in members if member[1] == f"{self._group}-{slot}"]
        assigned = [ConsumerProtocolMemberAssignment.decode(each).assignment for each in mine]
        return [partition for topics in assigned for _, partitions in topics for partition in partitions]


@asynccontextmanager
async def open_assignments(stack: Stack) -> AsyncIterator[Assignments]:
    """Asks the broker, until closed."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    try:
        yield Assignments(admin, stack)
    finally:
        await admin.close()


@asynccontextmanager
async def follow_ends(stack: Stack) -> AsyncIterator[Ends]:
    """Reads the topics in the background."""
    ends = Ends()
    task = asyncio.create_task(ends.follow(stack))
    try:
        yield ends
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
