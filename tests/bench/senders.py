"""Sender processes on topics and a database of their own, and when their mail is through."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.topics import TopicPlan, Topics
from tests.bench.figures import NotMeasured
from tests.bench.sink import Sink, run_counting_sink
from tests.bench.watching import OnLook, ignore, wait_count
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.stack import Stack

_READY_S = 60
_STACK = (
    ("gateway", "api"),
    ("gateway", "worker"),
    ("sender", "worker"),
    ("scheduler", "api"),
    ("scheduler", "worker"),
    ("callback", "api"),
    ("callback", "worker"),
)


@dataclass(frozen=True)
class Share:
    """What one measurement has of the servers, with a relay that swallows everything."""

    stack: Stack
    sink: Sink
    runner: ServiceRunner

    @property
    def topics(self) -> Topics:
        """The four topics."""
        return self.stack.topics

    async def start_stack(self) -> list[ServiceProcess]:
        """Every service, one process of each kind, ready; the gateway's api is the first."""
        processes = [self.runner.start(f"services.{name}", command) for name, command in _STACK]
        for process in processes:
            await process.wait_ready(_READY_S)
        return processes

    def start_senders(self, count: int) -> list[ServiceProcess]:
        """Start so many, one a slot."""
        return [self.runner.start("services.sender", "worker", env={"MILENA_SLOT": str(slot)}) for slot in range(count)]

    async def wait_sunk(self, mails: int, senders: list[ServiceProcess], on_look: OnLook = ignore) -> int:
        """Wait until the sink has taken so many; gives how many it has. Raises NotMeasured when mail stays away."""
        try:
            return await wait_count(self.sink.count, mails, "mails at the sink", senders, on_look=on_look)
        except NotMeasured as exc:
            raise NotMeasured(f"{exc} ({await self._count_failed()} records on email.failed)") from exc

    async def wait_settled(self, mails: int, senders: list[ServiceProcess], on_look: OnLook = ignore) -> None:
        """Wait until the sink has taken all, the ledger has settled all, and each has its `email.sent` on the topic.

        The ledger is asked only at the end: counting is work for PostgreSQL. Raises NotMeasured.
        """
        await self.wait_sunk(mails, senders, on_look)
        connection = await asyncpg.connect(self.stack.database_url)
        try:
            query = "SELECT count(*) FROM sender.ledger WHERE state = 'settled'"
            await wait_count(lambda: connection.fetchval(query), mails, "mails settled in the ledger", senders)
        finally:
            await connection.close()
        async with count_records(self.stack.bootstrap_servers, self.topics.sent) as count:
            await wait_count(count, mails, "email.sent events on the topic", senders)

    async def _count_failed(self) -> int:
        async with count_records(self.stack.bootstrap_servers, self.topics.failed) as count:
            return await count()


@contextmanager
def take_share(servers: RealServers, *, relay_port: int | None = None, dumping: bool = False) -> Iterator[Share]:
    """Topics, a database, a sink and a runner; whatever the runner has started ends with the block.

    Mail goes to the sink, or to a relay of the caller's; a sink that is `dumping` keeps what it takes.
    """
    prefix, database = servers.create_topics(results=12), servers.create_database()
    stack = Stack(servers.bootstrap_servers(), prefix, servers.postgres().database_url(database))
    try:
        with run_counting_sink(dumping=dumping) as sink:
            env = {"MILENA_SMTP_PORT": str(relay_port or sink.port), "MILENA_LOG_LEVEL": "WARNING"}
            runner = ServiceRunner({**stack.env(), **env})
            try:
                yield Share(stack, sink, runner)
            finally:
                runner.stop_all()
    finally:
        servers.drop_database(database)
        servers.drop_topics(prefix)


@asynccontextmanager
async def count_records(bootstrap_servers: str, topic: str) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """A function that gives how many records a topic has had; nothing is fetched."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers)
    await consumer.start()
    partitions = [TopicPartition(topic, number) for number in range(TopicPlan().partitions)]

    async def count() -> int:
        return sum((await consumer.end_offsets(partitions)).values())

    try:
        yield count
    finally:
        await consumer.stop()
