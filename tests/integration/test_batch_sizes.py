"""How many records the batch consumer takes at once: many where many come, one where one comes."""

import asyncio
import time
from collections.abc import Sequence

from shared.batching import BatchConsumer, Record
from shared.producing import Message
from shared.publisher import Publisher
from tests.support.stack import Stack


async def test_a_trickle_is_taken_in_few_batches_and_a_lone_record_waits_for_no_other(stack: Stack) -> None:
    batches: list[int] = []

    async def handle(records: Sequence[Record]) -> None:
        batches.append(len(records))

    async def wait_for(count: int) -> None:
        async with asyncio.timeout(20):
            while sum(batches) < count:
                await asyncio.sleep(0.01)

    topic = stack.topics.sent
    publisher = Publisher(stack.kafka, client_id="t", compress=False, event_limit=4096)
    consumer = BatchConsumer(f"{stack.topic_prefix}g", [topic], handle, kafka=stack.kafka, slot=0, event_limit=4096)
    await publisher.start()
    await consumer.start()
    try:
        await publisher.publish(Message(topic, b"first", b"{}", []))
        await wait_for(1)
        began = time.monotonic()
        await publisher.publish(Message(topic, b"lone", b"{}", []))
        await wait_for(2)
        assert time.monotonic() - began < 2
        batches.clear()
        for number in range(100):
            await publisher.publish(Message(topic, b"%d" % number, b"{}", []))
        await wait_for(100)
        assert len(batches) < 50, "an answer of the broker for every record or two"
    finally:
        await consumer.stop()
        await publisher.stop()
