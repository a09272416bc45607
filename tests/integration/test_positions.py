"""Records deleted before they were read are an error in the log and in the metric, and reading goes on."""

import asyncio
import logging
from collections.abc import Sequence

import pytest
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from shared.batching import BatchConsumer, Record
from shared.metrics import OFFSET_OUT_OF_RANGE
from tests.support.events import publish_raw
from tests.support.stack import Stack


def count_lost() -> float:
    return float(OFFSET_OUT_OF_RANGE._value.get())


async def commit(stack: Stack, group: str, partition: TopicPartition, offset: int) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.bootstrap_servers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([partition])
    await consumer.commit({partition: offset})
    await consumer.stop()


async def read_all(stack: Stack, group: str, count: int) -> list[int]:
    """Offsets a batch consumer of ours handles."""
    offsets: list[int] = []

    async def handle(records: Sequence[Record]) -> None:
        offsets.extend(record.offset for record in records)

    options = {"kafka": stack.kafka, "slot": 0, "event_limit": 4096}
    consumer = BatchConsumer(group, [stack.topics.requested], handle, **options)  # type: ignore[arg-type]
    await consumer.start()
    async with asyncio.timeout(20):
        while len(offsets) < count:
            await asyncio.sleep(0.02)
    await consumer.stop()
    return offsets


async def test_a_lost_position_is_said_counted_and_left_behind(stack: Stack) -> None:
    partition = TopicPartition(stack.topics.requested, 4)
    await publish_raw(stack, *[b"{}"] * 10, partition=4)
    await commit(stack, f"{stack.topic_prefix}late", partition, 3)
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    await admin.delete_records({partition: RecordsToDelete(before_offset=7)})
    await admin.close()
    before = count_lost()
    with structlog.testing.capture_logs() as logs:
        assert await read_all(stack, f"{stack.topic_prefix}late", 3) == [7, 8, 9]
    assert count_lost() == before + 1
    (said,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert "records were lost" in said["event"]
    assert (said["position"], said["topic"], said["partition"]) == (3, partition.topic, 4)


async def test_a_fresh_group_on_a_topic_that_has_lost_its_oldest_is_no_error(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    await publish_raw(stack, *[b"{}"] * 5, partition=4)
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    await admin.delete_records({TopicPartition(stack.topics.requested, 4): RecordsToDelete(before_offset=2)})
    await admin.close()
    before = count_lost()
    assert await read_all(stack, f"{stack.topic_prefix}fresh", 3) == [2, 3, 4]
    assert count_lost() == before
    fetcher = [each for each in caplog.records if each.name == "aiokafka.consumer.fetcher"]
    assert not [each for each in fetcher if each.levelno < logging.WARNING], "its chatter stays out of the log"
