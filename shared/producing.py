"""aiokafka's idempotent producer, as `shared/publisher.py` needs it; tests/contract/test_producer_facts.py pins why."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidProducerEpoch,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    UnknownProducerId,
)
from aiokafka.structs import TopicPartition

from shared.partitioning import choose_partition

OUT_OF_STEP = (OutOfOrderSequenceNumber, UnknownProducerId, InvalidProducerEpoch, ProducerFenced)
"""A batch's number is not the one Kafka expects: it refuses this producer's every later one, too."""

_METADATA_PAUSE_S = 0.1
_RECORD_BYTES, _HEADER_BYTES = 128, 10  # what a record and its batch, and a header, take beside their content


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


class Message(NamedTuple):
    """One record to publish."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


Ack = asyncio.Future[Any]


async def hand_over(producer: AIOKafkaProducer, messages: Sequence[Message], limit: int, acks: list[Ack]) -> None:
    """Let a group go out; `acks` gets for each message, in order, the acknowledgement of the batch that carries it.

    So whoever stops waiting in the middle knows how far it came. Many messages share an acknowledgement, and others do,
    too: wait with `asyncio.wait`, which leaves it to them.
    `AIOKafkaProducer.send` makes a future for every record, which takes as long as all the rest of it.
    Raises MessageSizeTooLargeError for a record of more than `limit` bytes, KafkaError where nothing can be sent.
    """
    partitions: dict[str, list[int]] = {}
    for message in messages:
        if len(message.value) > limit // 2 and _measure(message) > limit:
            raise MessageSizeTooLargeError(f"a record of {len(message.value)} bytes")
        if message.topic not in partitions:
            partitions[message.topic] = sorted(await producer.partitions_for(message.topic))
    for topic, key, value, headers in messages:
        known = partitions[topic]
        partition = choose_partition(key, known, known if key else _list_available(producer, topic))
        ack = _append(producer, TopicPartition(topic, partition), key, value, headers)
        if ack is None:  # the batch is full, or on its way once more: wait as everybody does
            ack = await producer.send(topic, key=key, value=value, headers=headers, partition=partition)
        acks.append(ack)


def _measure(message: Message) -> int:
    headers = sum(len(name.encode()) + len(value) + _HEADER_BYTES for name, value in message.headers)
    return len(message.value) + len(message.key or b"") + headers + _RECORD_BYTES


def _list_available(producer: AIOKafkaProducer, topic: str) -> list[int]:
    """Partitions that have a leader now."""
    return list(producer._metadata.available_partitions_for_topic(topic) or ())


def _append(
    producer: AIOKafkaProducer, place: TopicPartition, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]
) -> Ack | None:
    """Into the batch that waits for this partition, or a new one; None where it takes no more."""
    accumulator = producer._message_accumulator
    if accumulator._closed or accumulator._exception is not None:
        return None
    waiting = accumulator._batches.get(place)
    if waiting:
        batch = waiting[-1]
    else:
        batch = accumulator._append_batch(accumulator.create_builder(), place)
        batch.future.add_done_callback(note_seen)
    if batch._builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
        return None
    ack: Ack = batch.future
    return ack


def note_seen(ack: Ack) -> None:
    """Whoever waited has his answer; what becomes of the record later is no error that nobody saw."""
    if not ack.cancelled():
        ack.exception()
