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
        self.given = 0
        self.commits: list[int] = []

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[SimpleNamespace]]:
        if timeout_ms < self.every_s * 1000:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        await asyncio.sleep(self.every_s)
        records = [
            SimpleNamespace(topic="t", partition=0, offset=self.given + number, timestamp=0, value=b"", headers=())
            for number in range(self.at_once)
        ]
        self.given += self.at_once
        return {TopicPartition("t", 0): records}

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition("t", 0)}

    async def commit(self, heads: dict[TopicPartition, int]) -> None:
        self.commits += heads.values()

    async def stop(self) -> None:
        pass


async def take_batches(source: Trickle, work_s: float, count: int, rest_s: float = 0) -> list[int]:
    """The sizes of the first batches, each of which takes `work_s`; `rest_s` between them."""
    sizes = []

    async def handle(records: Sequence[Record]) -> None:
        sizes.append(len(records))
        await asyncio.sleep(work_s)

    consumer = BatchConsumer("g", ["t"], handle, kafka=KafkaAccess("x:1"), slot=0, event_limit=1024)
    for _ in range(count):
        while not (fetched := await consumer._fetch(source)):
            await consumer._commit(source)
        await consumer._work(source, fetched)
        await asyncio.sleep(rest_s)
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


async def run_for(source: Trickle, span_s: float) -> list[int]:
    """A consumer reads the source; the offsets it has handled."""
    handled: list[int] = []

    async def handle(records: Sequence[Record]) -> None:
        handled.extend(record.offset for record in records)

    async def connect() -> Trickle:
        return source

    consumer = BatchConsumer("g", ["t"], handle, kafka=KafkaAccess("x:1"), slot=0, event_limit=1024)
    consumer._connect = connect  # type: ignore[method-assign]
    task = asyncio.create_task(consumer._run())
    await asyncio.sleep(span_s)
    task.cancel()
    await asyncio.wait([task])
    return handled


async def test_under_load_one_commit_tells_of_many_batches_and_the_last_of_all() -> None:
    source = Trickle(0.02)
    handled = await run_for(source, 1.3)
    assert len(handled) > 15
    assert 2 <= len(source.commits) <= 5
    assert source.commits[-1] == handled[-1] + 1


async def test_what_is_handled_is_committed_when_nothing_more_comes() -> None:
    source = Trickle(0.02)
    reading = asyncio.create_task(run_for(source, 1.6))
    await asyncio.sleep(0.3)
    source.every_s = 3600
    await asyncio.sleep(0.9)
    assert source.commits[-1] == source.given
    assert (await reading)[-1] == source.given - 1


class Partitions:
    """An aiokafka consumer that has these batches, by partition number; then nothing."""

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

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition("t", part) for part in range(2)}

    async def commit(self, heads: dict[TopicPartition, int]) -> None:
        self.commits.append({tp.partition: offset for tp, offset in heads.items()})


async def test_what_a_handler_owes_is_not_committed_until_it_is_paid() -> None:
    source = Partitions({0: [5, 6], 1: [1]}, {1: [2]})
    debts = [{("t", 0): 6}, {("t", 0): 6}, {}]
    sizes = []

    async def handle(records: Sequence[Record]) -> dict[tuple[str, int], int]:
        sizes.append(len(records))
        return debts.pop(0)

    consumer = BatchConsumer("g", ["t"], handle, kafka=KafkaAccess("x:1"), slot=0, event_limit=1024)
    for _ in range(3):
        await consumer._work(source, await consumer._fetch(source))
        await consumer._commit(source)
    assert sizes == [3, 1, 0]
    *before, last = source.commits
    assert [heads[0] for heads in before if 0 in heads] == [6] * len(before)
    assert max(heads.get(1, 0) for heads in before) == 3
    assert last == {0: 7}


async def test_a_handler_that_owes_is_called_though_nothing_comes() -> None:
    source, times = Partitions({0: [5]}), []

    async def handle(records: Sequence[Record]) -> dict[tuple[str, int], int]:
        times.append(time.monotonic())
        return {("t", 0): 5} if len(times) < 3 else {}

    async def connect() -> Partitions:
        return source

    async def stop() -> None:
        pass

    async def wait(timeout_ms: int, max_records: int) -> dict[TopicPartition, list[SimpleNamespace]]:
        await asyncio.sleep(timeout_ms / 1000)
        return await Partitions.getmany(source, timeout_ms, max_records)

    source.stop, source.getmany = stop, wait  # type: ignore[attr-defined, method-assign]
    consumer = BatchConsumer("g", ["t"], handle, kafka=KafkaAccess("x:1"), slot=0, event_limit=1024)
    consumer._connect = connect  # type: ignore[method-assign]
    task = asyncio.create_task(consumer._run())
    await asyncio.sleep(2)
    task.cancel()
    await asyncio.wait([task])
    assert len(times) == 3
    assert times[2] - times[0] < 2
    assert source.commits[-1] == {0: 6}
