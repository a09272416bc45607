"""Streams over a log that grows while they come, go, and come back: nothing is missed, and nothing is told twice."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition

from shared.kafka_access import KafkaAccess
from shared.live import Feed, Live, LiveEvent, Message, Position, Request, Slots, read_position, streams

TOPICS, PARTITIONS = ("email.sent", "email.failed"), 3


@dataclass
class Record:
    """As aiokafka gives it."""

    topic: str
    offset: int
    timestamp: int
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass
class Log:
    """Topics in memory."""

    records: dict[TopicPartition, list[Record]] = field(default_factory=dict)
    firsts: dict[TopicPartition, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for topic in TOPICS:
            for partition in range(PARTITIONS):
                self.records[TopicPartition(topic, partition)] = []

    def append(self, place: TopicPartition, name: int, account: str = "a") -> None:
        value = orjson.dumps({"id": name, "account": account})
        records = self.records[place]
        records.append(Record(place.topic, len(records), 1000 + name, value, (("ce_type", place.topic.encode()),)))


class LogConsumer:
    """What is used of aiokafka's consumer."""

    def __init__(self, log: Log, assigned: Sequence[TopicPartition]) -> None:
        self._log = log
        self._positions = dict.fromkeys(assigned, 0)
        self._paused: set[TopicPartition] = set()

    async def start(self) -> None:
        """Begin."""

    async def stop(self) -> None:
        """End."""

    def assignment(self) -> set[TopicPartition]:
        return set(self._positions)

    def assign(self, places: Sequence[TopicPartition]) -> None:
        self._positions, self._paused = dict.fromkeys(places, 0), set()

    def unsubscribe(self) -> None:
        self._positions = {}

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._positions[place] = offset

    def pause(self, place: TopicPartition) -> None:
        self._paused.add(place)

    async def position(self, place: TopicPartition) -> int:
        return self._positions[place]

    async def beginning_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        await asyncio.sleep(0)
        return {place: self._log.firsts.get(place, 0) for place in places}

    async def end_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        await asyncio.sleep(0)
        return {place: len(self._log.records[place]) for place in places}

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Record]]:
        await asyncio.sleep(random.choice((0, 0.001)))
        found: dict[TopicPartition, list[Record]] = {}
        for place, position in self._positions.items():
            records = self._log.records[place][position : position + random.randint(1, 5)]
            if records and place not in self._paused and random.random() < 0.5:
                found[place] = records
                self._positions[place] = position + len(records)
        return found


class LogFeed(Feed):
    """A feed from the log."""

    log = Log()

    def create_consumer(self, *topics: str, reset: str) -> Any:
        return LogConsumer(self.log, [each for each in self.log.records if each.topic in topics])


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    fresh = Log()
    monkeypatch.setattr(LogFeed, "log", fresh)
    return fresh


@asynccontextmanager
async def run_live(most_records: int = 100_000) -> AsyncIterator[Live]:
    live = Live(
        LogFeed(TOPICS, KafkaAccess("nowhere:9092"), "test", 10_000),
        Slots(per_process=9, per_account=9),
        most_records=most_records,
    )
    try:
        yield live
    finally:
        await live.stop()


def ask(since: str | None = None, *, stopping: asyncio.Event | None = None, allowed: bool = True) -> Request:
    async def is_allowed() -> bool:
        return allowed

    def wants(event: LiveEvent) -> bool:
        return bool(event.data["id"] % 3)

    position: Position | None = read_position(since) if since else None
    return Request("a", wants, position, is_allowed, stopping)


async def take(live: Live, request: Request, count: int) -> list[Message]:
    """The first messages of a stream, then leave."""
    taken: list[Message] = []
    async with live.open(request, "sse") as stream:
        async for messages in stream:
            taken += messages
            if len(taken) >= count:
                return taken[:count] if random.random() < 0.5 else taken
    return taken


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_comes_back_with_the_last_id_misses_nothing_wherever_he_comes_back_to(
    log: Log, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_CHECK_S", 0.003)
    monkeypatch.setattr(streams, "_HEARTBEAT_S", 0.006)
    random.seed(seed)
    total = 250

    async def grow() -> None:
        for name in range(total):
            log.append(random.choice(list(log.records)), name, random.choice("aaab"))
            if random.random() < 0.2:
                await asyncio.sleep(0)

    for name in range(-50, 0):
        log.append(random.choice(list(log.records)), name)
    async with run_live() as here, run_live() as there:
        [begin] = await take(here, ask(), 1)
        growing = asyncio.create_task(grow())
        heard: list[int] = []
        last = begin.id
        wanted: set[int] = set()
        while not growing.done() or not wanted <= set(heard):
            for message in await take(random.choice((here, there)), ask(last), random.randint(1, 15)):
                last = message.id or last  # none where the stream was ended
                if message.type.startswith("email."):
                    heard.append(orjson.loads(message.payload)["id"])
            wanted = {
                data["id"]
                for records in log.records.values()
                for data in (orjson.loads(record.value) for record in records)
                if data["account"] == "a" and data["id"] >= 0 and data["id"] % 3
            }
        await growing
    assert set(heard) == wanted
    assert sorted(heard) == sorted(set(heard))


async def test_what_is_not_held_any_more_is_said(log: Log) -> None:
    place = TopicPartition("email.sent", 0)
    async with run_live() as live:
        [begin] = await take(live, ask(), 1)
    for name in range(600):
        log.append(place, name)
    async with run_live(most_records=100) as live, live.open(ask(begin.id), "sse") as stream:
        messages = [message for some in [await anext(stream), await anext(stream)] for message in some]
    gap, first = messages[0], messages[1]
    assert gap.type == "gap"
    assert orjson.loads(gap.payload)["missing_from"].endswith("Z")
    assert read_position(gap.id).offsets[0][0] == 500
    assert orjson.loads(first.payload)["id"] == 500


async def test_every_stream_ends_when_the_process_is_to_stop_also_one_that_is_opened_then(log: Log) -> None:
    stopping = asyncio.Event()
    async with run_live() as live:
        waiting = [asyncio.create_task(take(live, ask(stopping=stopping), 100)) for _ in range(3)]
        await asyncio.sleep(0.05)
        stopping.set()
        ends = [messages[-1] for messages in await asyncio.wait_for(asyncio.gather(*waiting), 1)]
        ends.append((await asyncio.wait_for(take(live, ask(stopping=stopping), 100), 1))[-1])
    assert [(each.id, each.type, orjson.loads(each.payload)["reason"]) for each in ends] == [
        ("", "closed", "shutdown")
    ] * 4


async def test_a_key_that_is_good_no_more_ends_its_stream(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_CHECK_S", 0.01)
    async with run_live() as live:
        messages = await asyncio.wait_for(take(live, ask(allowed=False), 100), 1)
    assert orjson.loads(messages[-1].payload)["reason"] == "key"


async def test_a_quiet_stream_moves_its_reader_on_by_heartbeats(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_CHECK_S", 0.01)
    monkeypatch.setattr(streams, "_HEARTBEAT_S", 0.03)
    async with run_live() as live, live.open(ask(), "sse") as stream:
        [first] = await anext(stream)
        log.append(TopicPartition("email.failed", 2), 1, "somebody else")
        [beat] = await asyncio.wait_for(anext(stream), 1)
        while beat.id == first.id:
            [beat] = await asyncio.wait_for(anext(stream), 1)
    assert beat.type == "heartbeat"
    assert read_position(beat.id).offsets == ((0, 0, 0), (0, 0, 1))


async def test_kafka_is_read_only_while_somebody_listens(log: Log) -> None:
    async with run_live() as live:
        await take(live, ask(), 1)
        assert "live-hub" in {task.get_name() for task in asyncio.all_tasks()}
        live._hub._linger_s = 0.02
        await take(live, ask(), 1)
        await asyncio.sleep(0.1)
        assert "live-hub" not in {task.get_name() for task in asyncio.all_tasks()}
        assert [each.type for each in await take(live, ask(), 1)] == ["heartbeat"]
