"""aiokafka's idempotent producer, as `shared/publisher.py` needs it; tests/contract/test_producer_facts.py pins why."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, OutOfOrderSequenceNumber, ProducerFenced, UnknownProducerId

from shared.partitioning import choose_partition

OUT_OF_STEP = (OutOfOrderSequenceNumber, UnknownProducerId, InvalidProducerEpoch, ProducerFenced)
"""A batch's number is not the one Kafka expects: it refuses this producer's every later one, too."""

_METADATA_PAUSE_S = 0.1


def create_producer(options: Mapping[str, Any]) -> AIOKafkaProducer:
    """A producer, not started, that gives no batch up and asks for leaders at times only.

    While a partition has no leader aiokafka gives batches up after `request_timeout_ms`, their numbers spent: after a
    broker's restart of more than 10 s every later one was refused (OutOfOrderSequenceNumber).
    """
    producer = AIOKafkaProducer(**options, partitioner=choose_partition)
    producer._message_accumulator._batch_ttl = math.inf
    _pace_metadata(producer)
    return producer


def _pace_metadata(producer: AIOKafkaProducer) -> None:
    """While leaders are unknown aiokafka asks for them without a pause: 600 lines of log a second, and a core."""
    client = producer.client
    update: Callable[[object, object], Awaitable[bool]] = client._metadata_update
    last = -math.inf

    async def update_at_times(cluster: object, topics: object) -> bool:
        nonlocal last
        await asyncio.sleep(max(0.0, last + _METADATA_PAUSE_S - time.monotonic()))
        last = time.monotonic()
        return await update(cluster, topics)

    client._metadata_update = update_at_times
