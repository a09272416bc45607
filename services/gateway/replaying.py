"""Reading the email topics from the beginning, or from a time, up to an end that is known beforehand.

No group, nothing is committed. An end is the last stable offset: aborted records and transaction markers leave holes
before it, so it is the consumer's position that tells whether it is reached, never a record. Memory is bounded by what
Kafka hands out at once.
"""

import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from shared.batching import Record
from shared.bounded_batches import guard_batches
from shared.kafka_access import KafkaAccess
from shared.retrying import Unavailable
from shared.topics import EVENT_HEADROOM

log = structlog.get_logger(__name__)

Place = tuple[str, int]
"""A topic's name and a partition's number."""

# A batch: records at most, bytes about; few are drained at once, for compressed they may be large (R8).
_MAX_RECORDS, _MAX_BYTES, _DRAINED_AT_ONCE = 1000, 16 * 1024 * 1024, 100
_POLL_MS = 200
_STALLED_S = 30.0


class ReplayUnavailable(Unavailable):
    """Kafka does not answer, goes no further, or has no such topics; the message says which."""


class Replay:
    """The records of `topics`, in each partition from `firsts` up to, not including, `ends`.

    `firsts` moves on where retention deletes records before they are read. `cluster_id` is the cluster's.
    """

    def __init__(self, topics: Sequence[str], *, kafka: KafkaAccess, event_limit: int) -> None:
        guard_batches(event_limit)
        self.firsts: dict[Place, int] = {}
        self.ends: dict[Place, int] = {}
        self.cluster_id = ""
        self._topics = topics
        self._kafka = kafka
        self._consumer = AIOKafkaConsumer(
            **kafka.options(),
            isolation_level="read_committed",
            auto_offset_reset="none",
            enable_auto_commit=False,
            max_partition_fetch_bytes=event_limit + EVENT_HEADROOM,
            fetch_max_wait_ms=100,
        )

    async def start(self, since: datetime | None = None) -> None:
        """Find where reading begins (at the earliest, or at `since`) and where it ends. Raises ReplayUnavailable."""
        try:
            partitions = await self._find_partitions()
            await self._consumer.start()
            self._consumer.assign(partitions)
            earliest = await self._consumer.beginning_offsets(partitions)
            # Asked for before the times: what arrives in between is read, not passed over.
            latest = await self._consumer.end_offsets(partitions)
            firsts = await self._find_times(since, latest) if since else earliest
            for each in partitions:
                first = max(firsts[each], earliest[each])
                self.firsts[each.topic, each.partition] = first
                self._consumer.seek(each, first)
            await self.extend()
        except (KafkaError, OSError) as exc:
            why = (await self._kafka.explain_absence()).why
            raise ReplayUnavailable(f"kafka: {type(exc).__name__}; {why}") from exc

    async def stop(self) -> None:
        """Leave Kafka."""
        await self._consumer.stop()

    async def extend(self) -> int:
        """Move the ends to where the topics end now. Returns how far that is from what has been read, in offsets."""
        try:
            ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
            self.ends = {(each.topic, each.partition): end for each, end in ends.items()}
            left = 0
            for each, end in ends.items():
                left += max(end - await self._consumer.position(each), 0)
        except KafkaError as exc:
            raise ReplayUnavailable(f"kafka: {type(exc).__name__}") from exc
        return left

    async def read(self) -> AsyncIterator[list[Record]]:
        """What has not been read yet, up to the ends, in batches. Raises ReplayUnavailable after 30 s without any."""
        left = await self._find_unread()
        self._consumer.resume(*left)
        moved_at, known = time.monotonic(), -1
        while left:
            batch = await self._fetch()
            if batch:
                yield batch
            left = await self._find_unread()
            position = sum([await self._consumer.position(each) for each in self._consumer.assignment()])
            if position != known:
                moved_at, known = time.monotonic(), position
            elif time.monotonic() - moved_at > _STALLED_S:
                raise ReplayUnavailable(f"kafka: nothing came for {_STALLED_S:.0f} s, {len(left)} partitions not read")

    async def _find_unread(self) -> set[TopicPartition]:
        """Partitions not read to their end; the others are paused, so that nothing beyond it is taken."""
        unread = set()
        for each in self._consumer.assignment():
            if await self._consumer.position(each) < self.ends[each.topic, each.partition]:
                unread.add(each)
            else:
                self._consumer.pause(each)
        return unread

    async def _fetch(self) -> list[Record]:
        batch: list[Record] = []
        size = 0
        while len(batch) < _MAX_RECORDS and size < _MAX_BYTES:
            drained = await self._drain(0 if batch else _POLL_MS)
            if not drained:
                break
            batch += drained
            size += sum(len(record.value or b"") for record in drained)
        return batch

    async def _drain(self, timeout_ms: int) -> list[Record]:
        try:
            fetched = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=_DRAINED_AT_ONCE)
        except OffsetOutOfRangeError as exc:
            await self._follow_retention(list(exc.args[0]))
            return []
        except KafkaError as exc:
            raise ReplayUnavailable(f"kafka: {type(exc).__name__}") from exc
        drained: list[Record] = []
        for each, messages in fetched.items():
            end = self.ends[each.topic, each.partition]
            drained += [to_record(message) for message in messages if message.offset < end]
            if messages[-1].offset >= end:
                self._consumer.seek(each, end)
                self._consumer.pause(each)
        return drained

    async def _follow_retention(self, partitions: list[TopicPartition]) -> None:
        """Records were deleted before we came to them: what we know begins later, then."""
        for each, first in (await self._consumer.beginning_offsets(partitions)).items():
            log.warning("retention was faster", topic=each.topic, partition=each.partition, first=first)
            self.firsts[each.topic, each.partition] = first
            self._consumer.seek(each, first)

    async def _find_partitions(self) -> list[TopicPartition]:
        admin = AIOKafkaAdminClient(**self._kafka.options())
        await admin.start()
        try:
            self.cluster_id = str((await admin.describe_cluster())["cluster_id"])
            # All topics: asking for one by its name may create it.
            described = {each["topic"]: each["partitions"] for each in await admin.describe_topics()}
        finally:
            await admin.close()
        missing = [topic for topic in self._topics if topic not in described]
        if missing:
            raise ReplayUnavailable(f"topics missing: {', '.join(missing)}")
        return [TopicPartition(topic, each["partition"]) for topic in self._topics for each in described[topic]]

    async def _find_times(self, since: datetime, latest: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        at_ms = int(since.timestamp() * 1000)
        found = await self._consumer.offsets_for_times(dict.fromkeys(latest, at_ms))
        return {each: found[each].offset if found[each] else end for each, end in latest.items()}


def to_record(message: Any) -> Record:
    """What aiokafka gives as the rest of the gateway knows records."""
    return Record(
        message.topic,
        message.partition,
        message.offset,
        message.timestamp,
        message.value,
        tuple(message.headers),
    )
