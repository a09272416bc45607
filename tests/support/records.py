"""Publish and read with plain aiokafka, as any other service would: nothing of ours on this side of the topic."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


@dataclass(frozen=True, slots=True)
class Seen:
    """One record as it was read."""

    topic: str
    key: str | None
    data: dict[str, Any]
    headers: dict[str, str]
    seen_at: float  # time.time()


async def publish(
    bootstrap_servers: str, topic: str, *values: bytes | Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> None:
    """Publish values one after the other, keyless, and wait until they are acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", max_request_size=2_000_000)
    await producer.start()
    try:
        for value in values:
            raw = value if isinstance(value, bytes) else orjson.dumps(value)
            pairs = [(name, text.encode()) for name, text in (headers or {}).items()]
            await producer.send_and_wait(topic, raw, headers=pairs)
    finally:
        await producer.stop()


class TopicReader:
    """Reads topics from their beginning into `seen`, in the background."""

    def __init__(self, bootstrap_servers: str, *topics: str) -> None:
        self.seen: list[Seen] = []
        self._consumer = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=bootstrap_servers,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=2_000_000,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._consumer.stop()

    async def _read(self) -> None:
        async for record in self._consumer:
            headers = {name: value.decode() for name, value in record.headers}
            key = record.key.decode() if record.key else None
            self.seen.append(Seen(record.topic, key, _read_object(record.value), headers, time.time()))

    async def wait_for(self, wanted: Callable[[Seen], bool], count: int = 1, timeout_s: float = 20) -> list[Seen]:
        """Wait until `count` records are as wanted and give them."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = [each for each in self.seen if wanted(each)]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"{count} wanted, but read only: {[(each.topic, each.headers) for each in self.seen]}")


def _read_object(value: bytes) -> dict[str, Any]:
    """The record's JSON object; an empty one for what is none, as tests also publish that."""
    try:
        data = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return data if isinstance(data, dict) else {}
