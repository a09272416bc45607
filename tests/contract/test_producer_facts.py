"""What shared/publisher.py relies on in aiokafka, and how it goes on where a producer cannot."""

import asyncio
import math
from collections import Counter

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import OutOfOrderSequenceNumber
from aiokafka.producer.message_accumulator import MessageBatch
from aiokafka.structs import TopicPartition

from shared.producing import Ack, Message, hand_over
from shared.publisher import EventTooLarge, OutcomeUnknown, Publisher, PublisherUnavailable
from tests.support.records import TopicReader
from tests.support.stack import Stack


@pytest.fixture
def message(stack: Stack) -> Message:
    return Message(stack.topics.sent, b"k", b"{}", [])


async def start_publisher(stack: Stack) -> Publisher:
    publisher = Publisher(stack.kafka, client_id="t", compress=False, event_limit=100_000)
    await publisher.start()
    return publisher


async def test_batches_never_expire(stack: Stack, message: Message) -> None:
    publisher = await start_publisher(stack)
    try:
        producer = publisher._producer
        assert producer
        accumulator = producer._message_accumulator
        batch = MessageBatch(TopicPartition(message.topic, 0), None, accumulator._batch_ttl, 0)
        batch._ctime -= 1e6
        assert accumulator._batch_ttl == math.inf
        assert not batch.expired()
    finally:
        await publisher.stop()


def skip_a_number(producer: AIOKafkaProducer, topic: str) -> None:
    """As if a batch of each partition had been given up: its number never reaches the broker."""
    manager = producer._txn_manager
    for partition in range(12):
        manager.increment_sequence_number(TopicPartition(topic, partition), 1)


async def test_a_producer_out_of_step_is_replaced_and_the_next_publish_succeeds(stack: Stack, message: Message) -> None:
    publisher = await start_publisher(stack)
    try:
        await publisher.publish(message)
        assert publisher._producer
        skip_a_number(publisher._producer, message.topic)
        with pytest.raises(OutcomeUnknown, match=OutOfOrderSequenceNumber.__name__):
            await publisher.publish(message)
        async with asyncio.timeout(10):
            while not publisher.available:
                await asyncio.sleep(0.05)
        await publisher.publish(message)
    finally:
        await publisher.stop()


async def test_a_worker_may_publish_its_group_again_on_a_fresh_producer(stack: Stack, message: Message) -> None:
    publisher = await start_publisher(stack)
    values = [b'{"n": %d}' % number for number in range(20)]
    group = [Message(message.topic, b"k%d" % number, value, []) for number, value in enumerate(values)]
    try:
        await publisher.publish_all(group)
        assert publisher._producer
        skip_a_number(publisher._producer, message.topic)
        with pytest.raises(PublisherUnavailable):
            await publisher.publish_all(group)
        async with asyncio.timeout(10):
            while not publisher.available:
                await asyncio.sleep(0.05)
        await publisher.publish_all(group)
    finally:
        await publisher.stop()
    async with TopicReader(stack.bootstrap_servers, message.topic) as reader:
        await reader.wait_for(lambda seen: True, 40)
        assert Counter(seen.data["n"] for seen in reader.seen) == dict.fromkeys(range(20), 2)


async def test_a_broker_that_is_away_is_asked_for_leaders_ten_times_a_second(stack: Stack, message: Message) -> None:
    publisher = Publisher(stack.kafka, client_id="t", compress=False, event_limit=100_000, linger_ms=200)
    await publisher.start()
    await publisher.publish(message)
    assert publisher._producer
    client = publisher._producer.client
    tries = 0

    async def find_nobody(*_: object, **__: object) -> None:
        nonlocal tries
        tries += 1

    ack = await publisher.send(message)
    get_conn, client._get_conn = client._get_conn, find_nobody
    client.cluster._partitions.clear()  # while the batch lingers: nobody leads its partition now
    await asyncio.sleep(1.5)
    client._get_conn = get_conn
    await ack
    await publisher.stop()
    assert 2 <= tries <= 40  # an update may ask two connections


async def test_a_group_shares_batches_goes_beyond_a_full_one_and_waits_for_all_of_them(stack: Stack) -> None:
    publisher = await start_publisher(stack)
    values = [b'{"n": %d, "x": "%b"}' % (number, b"x" * 50_000) for number in range(12)]
    group = [Message(stack.topics.sent, b"the same", value, []) for value in values]
    try:
        assert publisher._producer
        acks: list[Ack] = []
        await hand_over(publisher._producer, group, 100_000, acks)
        await asyncio.wait(acks)
        await publisher.publish_all(group)
        with pytest.raises(EventTooLarge):
            await publisher.publish_all([*group, Message(stack.topics.sent, b"k", b"x" * 2_000_000, [])])
    finally:
        await publisher.stop()
    async with TopicReader(stack.bootstrap_servers, stack.topics.sent) as reader:
        await reader.wait_for(lambda seen: True, 24)
        assert [seen.data["n"] for seen in reader.seen] == [*range(12), *range(12)]
    assert len(set(acks)) < len(acks) == len(group)


async def test_a_group_alone_in_its_batch_makes_no_future_a_record(stack: Stack) -> None:
    publisher = await start_publisher(stack)
    try:
        assert publisher._producer
        acks: list[Ack] = []
        await hand_over(publisher._producer, [Message(stack.topics.sent, b"k", b"{}", [])] * 50, 100_000, acks)
        assert (len(acks), len(set(acks))) == (50, 1)
        assert (await acks[0]).offset == 0
    finally:
        await publisher.stop()
