"""Publish and read events as a stranger would: plain aiokafka, nothing of ours."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from tests.support.stack import Stack

SIMPLE: dict[str, Any] = {
    "from": "no-reply@example.com",
    "to": ["ann@example.org"],
    "subject": "Hello",
    "text": "Hi",
    "html": "<b>Hi</b>",
}
"""A mail to one recipient, as a service publishes it."""


@dataclass(frozen=True)
class Result:
    """One event read from a topic."""

    topic: str
    key: str | None
    headers: dict[str, str]
    data: dict[str, Any]

    @property
    def ce_id(self) -> str:
        """The event's identity."""
        return self.headers["ce_id"]


async def publish_raw(
    stack: Stack, *values: bytes | None, topic: str | None = None, headers: Any = None, partition: int | None = None
) -> None:
    """Put records on a topic (email.requested), in one batch where they fall into one partition."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers, linger_ms=20)
    await producer.start()
    try:
        acks = [
            await producer.send(topic or stack.topics.requested, value, key=b"k", headers=headers, partition=partition)
            for value in values
        ]
        for ack in acks:
            await ack
    finally:
        await producer.stop()


async def publish_json(stack: Stack, *events: dict[str, Any], **options: Any) -> None:
    """Put JSON objects on email.requested."""
    await publish_raw(stack, *(json.dumps(each).encode() for each in events), **options)


async def read_results(
    stack: Stack, *, count: int, topics: tuple[str, ...] = (), timeout_s: float = 15.0, settle_s: float = 0.0
) -> list[Result]:
    """Read until `count` events have come (and `settle_s` more), from the beginning of email.sent and email.failed."""
    names = topics or (stack.topics.sent, stack.topics.failed)
    consumer = AIOKafkaConsumer(*names, bootstrap_servers=stack.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    found: list[Result] = []
    deadline = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline:
            batch = await consumer.getmany(timeout_ms=100)
            found += [to_result(record) for records in batch.values() for record in records]
            if len(found) >= count and settle_s >= 0:
                deadline = min(deadline, time.monotonic() + settle_s)
                settle_s = -1
    finally:
        await consumer.stop()
    assert len(found) >= count, f"{len(found)} of {count} events came: {found}"
    return found


def to_result(record: Any) -> Result:
    """One record as it was read."""
    headers = {name: value.decode() for name, value in record.headers}
    key = record.key.decode() if record.key else None
    return Result(record.topic, key, headers, json.loads(record.value))


async def wait_acknowledged(stack: Stack, service: str, count: int, timeout_s: float = 20.0) -> None:
    """Wait until a service's group has committed `count` records of email.requested, and no more than those."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    deadline = time.monotonic() + timeout_s
    total = 0
    try:
        while total < count and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            offsets = await admin.list_consumer_group_offsets(f"{stack.topic_prefix}milena-{service}")
            total = sum(each.offset for each in offsets.values() if each.offset > 0)
    finally:
        await admin.close()
    assert total == count, f"{total} of {count} records are acknowledged"
