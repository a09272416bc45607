"""How live events are read from Kafka: without a group, nothing is committed, and nobody else is disturbed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer

from shared.bounded_batches import guard_batches
from shared.kafka_access import KafkaAccess
from shared.topics import EVENT_HEADROOM

AT_ONCE = 100  # records between two turns of the loop: a fraction of a millisecond each turn
_WAIT_MS = 1000  # one request a second and broker while nothing happens; what happens is answered at once


@dataclass(frozen=True, slots=True)
class Feed:
    """The topics that are read, in the order in which positions name them, and where. `event_limit` in bytes."""

    topics: tuple[str, ...]
    kafka: KafkaAccess
    client_id: str
    event_limit: int

    def create_consumer(self, *topics: str, reset: str) -> Any:
        """A consumer of these topics, all partitions; of those it is assigned where none are given."""
        guard_batches(self.event_limit)
        return AIOKafkaConsumer(
            *topics,
            **self.kafka.options(),
            client_id=self.client_id,
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset=reset,
            enable_auto_commit=False,
            max_partition_fetch_bytes=self.event_limit + EVENT_HEADROOM,
            fetch_max_bytes=4 * (self.event_limit + EVENT_HEADROOM),
            fetch_max_wait_ms=_WAIT_MS,
            metadata_max_age_ms=60_000,
        )

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        """A consumer of all the feed's partitions, started. Raises KafkaError, OSError."""
        consumer = self.create_consumer(*self.topics, reset="latest")
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()
