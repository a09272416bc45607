"""Draining the topic: publish first, then start the senders and watch the results come."""

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import Any

import asyncpg
import orjson
import psutil
from aiokafka import AIOKafkaProducer

from shared.events import new_email_id
from shared.topics import Topics
from tests.bench.sink import run_sink
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess, ServiceRunner

_PARAGRAPH = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor.\n"


@dataclass(frozen=True)
class DrainResult:
    """One round. Times in seconds; CPU is the senders', user and system, start-up left out."""

    mails: int
    senders: int
    seconds: float
    mails_per_s: float
    cpu_us_per_mail: float
    resident_mb: float

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.mails} mails in {self.seconds:.2f} s: {self.mails_per_s:,.0f}/s, "
            f"{self.cpu_us_per_mail:.0f} µs CPU a mail, {self.resident_mb:.0f} MB resident"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def make_mail(number: int) -> dict[str, Any]:
    """A 2 kB multipart mail to one recipient."""
    return {
        "id": str(new_email_id()),
        "from": "no-reply@example.com",
        "to": [f"user{number}@example.org"],
        "subject": f"Your order {number} is on its way",
        "text": _PARAGRAPH * 10,
        "html": f"<p>{_PARAGRAPH * 13}</p>",
    }


async def publish_mails(bootstrap_servers: str, topic: str, count: int) -> None:
    """Put the mails on the topic and wait for every acknowledgement."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, linger_ms=5, acks="all", compression_type="lz4", max_batch_size=1 << 17
    )
    await producer.start()
    try:
        acks = []
        for number in range(count):
            mail = make_mail(number)
            acks.append(await producer.send(topic, orjson.dumps(mail), key=mail["id"].encode()))
        for ack in acks:
            await ack
    finally:
        await producer.stop()


async def measure_drain(servers: RealServers, mails: int, senders: int) -> DrainResult:
    """One round on topics and a database of its own."""
    prefix, database = servers.create_topics(), servers.create_database()
    url = servers.postgres().database_url(database)
    topics = Topics(prefix)
    await publish_mails(servers.bootstrap_servers(), topics.requested, mails)
    with run_sink() as port:
        runner = ServiceRunner(
            {
                "MILENA_KAFKA_BOOTSTRAP_SERVERS": servers.bootstrap_servers(),
                "MILENA_TOPIC_PREFIX": prefix,
                "MILENA_DATABASE_URL": url,
                "MILENA_SMTP_PORT": str(port),
                "MILENA_LOG_LEVEL": "WARNING",
            }
        )
        try:
            processes = [
                runner.start("services.sender", "worker", env={"MILENA_SLOT": str(slot)}) for slot in range(senders)
            ]
            return await _watch(url, mails, processes)
        finally:
            runner.stop_all()
            servers.drop_database(database)
            servers.drop_topics(prefix)


async def _watch(url: str, mails: int, processes: list[ServiceProcess]) -> DrainResult:
    """From the first settled mail to the last. The bench sleeps, so it takes next to nothing from the senders."""
    connection = await asyncpg.connect(url)
    query = "SELECT count(*) FROM sender.ledger WHERE state = 'settled'"
    try:
        first = 0
        while not first:
            await asyncio.sleep(0.02)
            first = await connection.fetchval(query)
        started, cpu = time.monotonic(), _cpu_s(processes)
        done = first
        while done < mails:
            await asyncio.sleep(0.05)
            done = await connection.fetchval("SELECT count(*) FROM sender.ledger WHERE state = 'settled'")
        seconds = time.monotonic() - started
        used = _cpu_s(processes) - cpu
    finally:
        await connection.close()
    measured = mails - first
    return DrainResult(
        mails, len(processes), seconds, measured / seconds, used / measured * 1e6, max(map(_resident_mb, processes))
    )


def _cpu_s(processes: list[ServiceProcess]) -> float:
    total = 0.0
    for process in processes:
        times = psutil.Process(process.pid).cpu_times()
        total += times.user + times.system
    return total


def _resident_mb(process: ServiceProcess) -> float:
    return psutil.Process(process.pid).memory_info().rss / 1e6
