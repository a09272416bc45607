"""Listening as an application does, and results for it to hear of."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from aiokafka import AIOKafkaProducer

from tests.support.stack import Stack


@dataclass
class Heard:
    """What a stream has said: every event as `(type, data)`, the last id, and whether it has ended."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    last_id: str = ""
    has_ended: bool = False

    def list_ids(self) -> list[str]:
        """The mails of the events of mail, in order."""
        return [data["id"] for kind, data in self.events if kind.startswith("email.")]

    async def wait_for(self, count: int, timeout_s: float = 10) -> list[tuple[str, dict[str, Any]]]:
        """Wait until so many events have come."""
        async with asyncio.timeout(timeout_s):
            while len(self.events) < count:
                await asyncio.sleep(0.01)
        return self.events

    async def wait_end(self, timeout_s: float = 10) -> None:
        """Wait until the server has ended the stream."""
        async with asyncio.timeout(timeout_s):
            while not self.has_ended:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def listen(url: str, headers: dict[str, str] | None = None, **params: str) -> AsyncIterator[Heard]:
    """A stream of `GET /v1/events`, open and at its place."""
    heard = Heard()
    async with httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(5, read=None)) as client:
        reading = asyncio.create_task(_read(client, headers or {}, params, heard))
        try:
            async with asyncio.timeout(10):
                while not heard.last_id and not reading.done():
                    await asyncio.sleep(0.01)
            if reading.done():
                reading.result()
            yield heard
        finally:
            reading.cancel()
            await asyncio.wait([reading])


async def _read(client: httpx.AsyncClient, headers: dict[str, str], params: dict[str, str], heard: Heard) -> None:
    async with client.stream("GET", "/v1/events", params=params, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        kind = data = ""
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                heard.last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data = value
            elif not line and kind:
                heard.events.append((kind, json.loads(data)))
                kind = ""
    heard.has_ended = True


def make_result(account: str, **fields: Any) -> dict[str, Any]:
    """What the sender says of a mail that was sent, or with `reason` of one that was not."""
    common = {"id": str(uuid4()), "attempt": 1, "outstanding": 0, "complete": True, "account": account, "tags": []}
    if "reason" in fields:
        return common | {"recipients": [], "final": True} | fields
    return common | {"recipients": ["ann@example.org"], "message_id": "<1@x>", "relay": "r", "response": "250"} | fields


@contextlib.asynccontextmanager
async def publishing(stack: Stack) -> AsyncIterator["Results"]:
    """One producer, as the sender's."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers, linger_ms=5)
    await producer.start()
    try:
        yield Results(stack, producer)
    finally:
        await producer.stop()


@dataclass
class Results:
    """Publishes results."""

    stack: Stack
    producer: Any

    async def publish(self, *results: dict[str, Any]) -> list[str]:
        """Put them on their topics, spread over the partitions, and wait until they are there. Gives their ids."""
        acks = []
        for each in results:
            kind = "email.failed" if "reason" in each else "email.sent"
            topic = self.stack.topics.failed if "reason" in each else self.stack.topics.sent
            headers = [("ce_type", kind.encode()), ("ce_id", str(uuid4()).encode())]
            value = json.dumps(each).encode()
            acks.append(await self.producer.send(topic, value, key=each["id"].encode(), headers=headers))
        await asyncio.gather(*acks)
        return [each["id"] for each in results]
