"""Reading single records of email.requested again, at the places the read model has of them.

No group, nothing is committed, and one partition at a time, so that little lies in memory. For the few mails an
operator tries again: a connection is made for each reading.
"""

import asyncio
from collections.abc import Collection
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from services.gateway.replaying import ReplayUnavailable, to_record
from shared.batching import Record
from shared.bounded_batches import guard_batches
from shared.kafka_access import KafkaAccess
from shared.topics import EVENT_HEADROOM, find_cluster_id

Spot = tuple[int, int]
"""A partition's number and an offset in it."""

_PATIENCE_S = 10.0  # for one record, or for one answer about a partition


class RecordReader:
    """Reads records of `topic` by their place. `event_limit` is in bytes of a serialised event.

    `cluster_id`, known once something was read, is part of the identity of records published without one.
    """

    def __init__(self, topic: str, *, kafka: KafkaAccess, event_limit: int) -> None:
        guard_batches(event_limit)
        self.cluster_id = ""
        self._topic = topic
        self._kafka = kafka
        self._options = {
            **kafka.options(),
            "isolation_level": "read_committed",
            "auto_offset_reset": "none",
            "enable_auto_commit": False,
            "max_partition_fetch_bytes": event_limit + EVENT_HEADROOM,
            "fetch_max_wait_ms": 100,
        }

    async def read(self, spots: Collection[Spot]) -> dict[Spot, Record]:
        """The records that still lie there; those that retention has taken are left out. Raises ReplayUnavailable."""
        found: dict[Spot, Record] = {}
        if not spots:
            return found
        consumer = AIOKafkaConsumer(**self._options)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await consumer.start()
                self.cluster_id = self.cluster_id or await find_cluster_id(self._kafka)
            for partition in sorted({partition for partition, _ in spots}):
                offsets = sorted(offset for each, offset in set(spots) if each == partition)
                found |= await self._read_partition(consumer, partition, offsets)
        except (KafkaError, OSError, TimeoutError) as exc:
            raise ReplayUnavailable(f"kafka: {type(exc).__name__}") from exc
        finally:
            await consumer.stop()
        return found

    async def _read_partition(self, consumer: Any, partition: int, offsets: list[int]) -> dict[Spot, Record]:
        place = TopicPartition(self._topic, partition)
        consumer.assign([place])
        async with asyncio.timeout(_PATIENCE_S):
            first = (await consumer.beginning_offsets([place]))[place]
            end = (await consumer.end_offsets([place]))[place]
        found: dict[Spot, Record] = {}
        following = -1
        for offset in (each for each in offsets if first <= each < end):
            if offset != following:  # what was fetched with the one before is not thrown away
                consumer.seek(place, offset)
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    message = await consumer.getone(place)
            except OffsetOutOfRangeError:  # retention was faster
                following = -1
                continue
            following = message.offset + 1
            if message.offset == offset:
                found[partition, offset] = to_record(message)
        return found
