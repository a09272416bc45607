"""Faust's real app, stream, agent and consumer over a broker that is only a record of what was asked of it.

Nothing of Faust is replaced but the thread in which its driver would talk to Kafka.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import faust
from faust.events import Event
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode.utils.futures import notify

TOPIC = "letters"
GENERATION = 1

Agent = Callable[[Any], Awaitable[None]]


@dataclass
class StubBroker:
    """Stands where the driver's thread stands: remembers commits, hands out what a test puts into `fetched`."""

    assigned: set[TP] = field(default_factory=set)
    commits: list[dict[TP, int]] = field(default_factory=list)
    fetched: list[dict[TP, list[Any]]] = field(default_factory=list)
    fetches: int = 0
    committed: dict[TP, int] = field(default_factory=dict)
    sought: dict[TP, int] = field(default_factory=dict)
    answering: asyncio.Event | None = None  # where set, commits are not answered before it is

    async def commit(self, offsets: dict[TP, int]) -> bool:
        if self.answering is not None:
            await self.answering.wait()
        self.commits.append(dict(offsets))
        self.committed.update(offsets)
        return True

    async def getmany(self, active: set[TP] | None, timeout: float) -> dict[TP, list[Any]]:
        self.fetches += 1
        return self.fetched.pop(0) if self.fetched else {}

    async def seek_to_committed(self) -> dict[TP, int]:
        return dict(self.committed)  # as aiokafka: where nothing is committed the position stays as it is

    async def seek_wait(self, partitions: dict[TP, int]) -> None:
        self.sought.update(partitions)

    def assignment(self) -> set[TP]:
        return set(self.assigned)

    def highwater(self, tp: TP) -> int:
        return 0

    def close(self) -> None: ...


class Rig:
    """One app with one topic, and a consumer that believes it is a member of a group."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.topic = app.topic(TOPIC, value_type=bytes, value_serializer="raw", key_serializer="raw")
        self.broker = StubBroker()
        self.consumer = app.consumer
        self.consumer._thread.thread_loop.close()  # never started
        self.consumer._thread = self.broker
        self.agents: list[Any] = []
        self._stream: Any = None
        app.topics._acking_topics.add(TOPIC)
        app.consumer_generation_id = GENERATION
        app.flow_control.resume()
        self.assign(0)

    def assign(self, *partitions: int) -> None:
        """Hold these partitions; nothing of them is committed yet."""
        self.broker.assigned = {TP(TOPIC, partition) for partition in partitions}
        self.consumer._set_active_tps(self.broker.assigned)

    async def start_agent(self, fun: Agent, **options: Any) -> Any:
        """Let an agent consume the topic."""
        agent = self.app.agent(self.topic, name=f"agent-{len(self.agents)}", **options)(fun)
        await self.run_agent(agent)
        return agent

    async def run_agent(self, agent: Any) -> None:
        """Start an agent the app already has; `deliver` reaches it."""
        self.agents.append(agent)
        await agent.maybe_start()
        self._stream = next(iter(agent._actors)).stream

    def open_stream(self) -> Any:
        """A bare stream of the topic, where an agent would be in the way."""
        self._stream = self.topic.stream()
        return self._stream

    def message(self, offset: int, *, partition: int = 0, value: bytes = b"{}", generation: int = GENERATION) -> Any:
        """A record as the driver hands it to the conductor."""
        tp = TP(TOPIC, partition)
        return ConsumerMessage(
            TOPIC, partition, offset, 1.0, 1, [], None, value, None, 0, len(value), tp, generation_id=generation
        )

    def event(self, offset: int, **message: Any) -> Any:
        """An event that one stream holds, as the conductor makes it."""
        made = self.message(offset, **message)
        made.incref(1)
        return Event(self.app, None, made.value, [], made)

    def deliver(self, *offsets: int, partition: int = 0, generation: int = GENERATION) -> None:
        """Put events into the stream's queue, as the conductor does."""
        for offset in offsets:
            self._stream.channel.queue.put_nowait(self.event(offset, partition=partition, generation=generation))

    def take_over(self, *offsets: int, partition: int = 0) -> list[Any]:
        """Events already tracked as being worked on, without any stream."""
        events = [self.event(offset, partition=partition) for offset in offsets]
        for event in events:
            event.message.tracked = True
            self.consumer.track_message(event.message)
        return events

    @property
    def acks(self) -> int:
        """How many events have been acknowledged; Faust itself commits whenever an agent fails."""
        return int(self.consumer._n_acked)

    async def commit(self) -> int | None:
        """Commit what Faust would commit now; the offset, or None where there was no commit."""
        before = len(self.broker.commits)
        await self.consumer.commit()
        return self.broker.commits[-1][TP(TOPIC, 0)] if len(self.broker.commits) > before else None

    def set_committed(self, offset: int, partition: int = 0) -> None:
        """As after an assignment: the group's committed offset is known."""
        self.consumer._committed_offset[TP(TOPIC, partition)] = offset

    async def close(self) -> None:
        for agent in self.agents:
            agent.cancel()  # as the app's agent manager does first; stop() alone waits for ever for a restarted actor
            await agent.stop()
        self.consumer._unacked_messages.clear()  # lets go whatever a failed test left in wait_empty
        notify(self.consumer._waiting_for_ack)


async def settle(condition: Callable[[], bool], timeout_s: float = 2.0) -> None:
    """Let the loop run until the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0)


async def run_loop(rounds: int = 50) -> None:
    """Let everything that is ready run: for asserting that something does not happen."""
    for _ in range(rounds):
        await asyncio.sleep(0)


def build_app(datadir: Path, consumer: type[Any] | None = None, **settings: Any) -> Any:
    """A plain Faust app; `consumer` replaces the driver's class in the way our own code does."""
    app = faust.App(
        f"facts-{uuid4().hex[:8]}",
        broker="kafka://127.0.0.1:1",
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        datadir=str(datadir),
        **settings,
    )
    if consumer is not None:
        transport_type = type("Transport", (driver.Transport,), {"Consumer": consumer})
        app.transport = transport_type(app.conf.broker, app)
    return app


@asynccontextmanager
async def open_rig(datadir: Path, consumer: type[Any] | None = None, **settings: Any) -> AsyncIterator[Rig]:
    """A rig, closed at the end."""
    rig = Rig(build_app(datadir, consumer, **settings))
    try:
        yield rig
    finally:
        await rig.close()


@contextmanager
def quiet_faust() -> Iterator[None]:
    """Faust logs each crash with its exception; a log that pytest keeps would keep the event alive (E15)."""
    logger = logging.getLogger("faust")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


def acknowledge(events: Iterable[Any]) -> Sequence[bool]:
    """Acknowledge by hand, as a `noack` agent does."""
    return [event.ack() for event in events]
