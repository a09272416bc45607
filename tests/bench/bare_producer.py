"""The yardstick of batches: what aiokafka costs by itself (`acks=all`, idempotent) to write the same events.

No HTTP, no JSON to read, no key, no rules on content. Several loops of batches share a producer, so that none waits
alone for the broker.

`python -m tests.bench.bare_producer SERVERS TOPIC MAILS_PER_BATCH LOOPS WARM_UP_S SECONDS` prints figures as JSON.
"""

import asyncio
import json
import sys
import time

import orjson
import uvloop
from aiokafka import AIOKafkaProducer

from shared.events import EventType, build_headers, new_email_id
from tests.bench.mails import make_body

_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_NOW = "2026-01-01T12:00:00.000Z"


async def produce(servers: str, topic: str, size: int, loops: int, warm_up_s: float, seconds: float) -> None:
    """Write for so long, and say how it went."""
    producer = AIOKafkaProducer(
        bootstrap_servers=servers,
        acks="all",
        enable_idempotence=True,
        compression_type="lz4",
        max_batch_size=128 * 1024,
    )
    await producer.start()
    body, done = make_body(), 0

    async def write_batches(until: float) -> None:
        nonlocal done
        while time.perf_counter() < until:
            batch_id, acks = str(new_email_id()), []
            own = {"batch_id": batch_id, "account": "default", "api_key_id": batch_id, "requested_at": _NOW}
            for _ in range(size):
                email_id = str(new_email_id())
                value = orjson.dumps({**body, **own, "id": email_id})
                headers = build_headers(EventType.REQUESTED, email_id, "/milena/bench", _NOW, _TRACE)
                acks.append(await producer.send(topic, value, key=email_id.encode(), headers=headers))
            await asyncio.gather(*acks)
            done += size

    async def write_for(duration_s: float) -> None:
        nonlocal done
        done, until = 0, time.perf_counter() + duration_s
        await asyncio.gather(*(write_batches(until) for _ in range(loops)))

    try:
        await write_for(warm_up_s)
        began, cpu_s = time.perf_counter(), time.process_time()
        await write_for(seconds)
        took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    finally:
        await producer.stop()
    print(json.dumps({"mails": done, "mails_per_s": done / took_s, "cpu_us": cpu_s / done * 1e6}))


if __name__ == "__main__":
    address, name, *numbers = sys.argv[1:]
    uvloop.run(produce(address, name, int(numbers[0]), int(numbers[1]), float(numbers[2]), float(numbers[3])))
