"""`python -m tests.chaos.dying_publisher`: begins a Kafka transaction, sends into it, and waits to be killed.

Arguments: bootstrap servers, topic, partition, transactional id, transaction timeout in ms. Mails as JSON lines on the
standard input; `sent` on the standard output once the broker holds them all. Nothing is ever committed.
"""

import asyncio
import sys

from aiokafka import AIOKafkaProducer


async def send_and_wait(servers: str, topic: str, partition: str, transactional_id: str, timeout_ms: str) -> None:
    """Until killed."""
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, transactional_id=transactional_id, transaction_timeout_ms=int(timeout_ms)
    )
    await producer.start()
    await producer.begin_transaction()
    for line in sys.stdin.buffer.read().splitlines():
        await producer.send_and_wait(topic, line, partition=int(partition))
    print("sent", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(send_and_wait(*sys.argv[1:]))
