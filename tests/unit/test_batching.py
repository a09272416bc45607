import asyncio
import time
from collections.abc import Sequence
from types import SimpleNamespace

from aiokafka import TopicPartition

from shared.batching import BatchConsumer, Record
from shared.kafka_access import KafkaAccess
from shared.turns import take_turns
from tests.support.turns import count_turns

RECORDS = [Record("t", 0, offset, 0, b"{}", ()) for offset in range(30)]


async def test_heartbeats_go_out_between_records_that_take_long_to_read() -> None:
    silences = []

    async def beat() -> None:
        since = time.monotonic()
        while True:
            await asyncio.sleep(0)
            silences.append(time.monotonic() - since)
            since = time.monotonic()

    heart = asyncio.create_task(beat())
    read = []
    async for record in take_turns(RECORDS):
        time.sleep(0.02)
        read.append(record)
    heart.cancel()

    assert read == RECORDS
    assert len(silences) > 5
    assert max(silences) < 0.5


async def test_records_that_are_read_quickly_are_not_held_up() -> None:
    async with count_turns() as turns:
        assert [record async for record in take_turns(RECORDS)] == RECORDS
        assert turns() == 0


class Trickle:
    """An aiokafka consumer whose records come one by one, `every_s`."""

    def __init__(self, every_s: float, at_once: int = 1) -> None:
        self.every_s, self.at_once = every_s, at_once
        self.commits = 0

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[SimpleNamespace]]:
        if timeout_ms < self.every_s * 1000:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        await asyncio.sleep(self.every_s)
        records = [SimpleNamespace(topic="t", partition=0, offset=0, timestamp=0, value=b"", headers=())]
        return {TopicPartition("t", 0): records * self.at_once}

    async def commit(self, heads: dict[TopicPartition, int]) -> None:
        self.commits += 1


async def take_batches(source: Trickle, work_s: float, count: int, rest_s: float = 0) -> list[int]:
    """The sizes of the first batches, each of which takes `work_s`; `rest_s` between them."""
    sizes = []

    async def handle(records: Sequence[Record]) -> None:
        sizes.append(len(records))
        await asyncio.sleep(work_s)

    consumer = BatchConsumer("g", ["t"], handle, kafka=KafkaAccess("x:1"), slot=0, event_limit=1024)
    for _ in range(count):
        await consumer._work(source, await consumer._fetch(source))
        await asyncio.sleep(rest_s)
    assert source.commits == count
    return sizes


async def test_under_load_a_batch_waits_for_company_four_times_as_long_as_the_one_before_took() -> None:
    first, *later = await take_batches(Trickle(0.005), 0.05, 3)
    assert first == 1
    assert all(3 < size <= 45 for size in later), later


async def test_after_a_rest_nothing_waits() -> None:
    assert await take_batches(Trickle(0.005), 0.05, 3, rest_s=0.25) == [1, 1, 1]


async def test_behind_a_backlog_nothing_waits() -> None:
    began = time.monotonic()
    assert await take_batches(Trickle(0, at_once=1000), 0.05, 4) == [1000] * 4
    assert time.monotonic() - began < 0.7


class Source:
    """An aiokafka consumer that has one batch for each partition number it is given; then nothing."""

    def __init__(self, *batches: dict[int, list[int]]) -> None:
        self.batches = list(batches)
        self.commits: list[dict[int, int]] = []

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[SimpleNamespace]]:
        batch = self.batches.pop(0) if self.batches and timeout_ms else {}
        return {
            TopicPartition("t", part): [
                SimpleNamespace(topic="t", partition=part, offset=each, timestamp=0, value=b"", headers=())
                for each in offsets
            ]
            for part, offsets in batch.items()
        }

    async def commit(self, heads: dict[TopicPartition, int]) -> None:
        self.commits.append({tp.partition: offset for tp, offset in heads.items()})


async def test_what_a_handler_owes_is_not_committed_until_it_is_paid() -> None:
    source = Source({0: [5, 6], 1: [1]}, {1: [2]})
    debts = [{("t", 0): 6}, {("t", 0): 6}, {}]
    sizes = []

    async def handle(records: Sequence[Record]) -> dict[tuple[str, int], int]:
        sizes.append(len(records))
        return debts.pop(0)

    consumer = BatchConsumer("g", ["t"], handle, kafka=KafkaAccess("x:1"), slot=0, event_limit=1024)
    for _ in range(3):
        await consumer._work(source, await consumer._fetch(source))
    assert sizes == [3, 1, 0]
    assert source.commits == [{0: 6, 1: 2}, {0: 6, 1: 3}, {0: 7}]
