"""The real Kafka and PostgreSQL behind a test run: one of each, started when the first test asks."""

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local.kafka import EmbeddedKafka
from deploy.local.migrations import migrate_all
from deploy.local.ports import find_free_port
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.settings import read_cache_settings
from deploy.local.topics import create_topics
from shared.kafka_access import KafkaAccess
from shared.topics import TopicPlan, Topics

T = TypeVar("T")

_TEMPLATE = "milena_template"


def run_apart(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end in a thread of its own, so that no test's event loop is touched."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class RealServers:
    """One Kafka and one PostgreSQL for the whole run, each started at its first use.

    `hasty`: PostgreSQL does not wait for the disk. What it has committed outlives its processes, but no loss of power.
    """

    def __init__(self, *, hasty: bool = False) -> None:
        self._hasty = hasty
        self._root = Path(tempfile.mkdtemp(prefix="milena-tests-"))
        self._ports: tuple[int, int] = (find_free_port(), find_free_port())
        self._kafka: EmbeddedKafka | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._has_template = False
        self._is_guest = False

    def share(self) -> dict[str, Any]:
        """Start both, and give what another process of this run needs to `join` them."""
        self.bootstrap_servers()
        self._template()
        return {"root": str(self._root), "ports": list(self._ports)}

    @classmethod
    def join(cls, shared: dict[str, Any]) -> Self:
        """The servers that another process of this run has started, and will stop."""
        servers = cls.__new__(cls)
        servers._root, servers._ports = Path(shared["root"]), (shared["ports"][0], shared["ports"][1])
        servers._kafka, servers._postgres = servers._create_kafka(), EmbeddedPostgres(servers._root / "postgres")
        servers._has_template = servers._is_guest = True
        return servers

    def bootstrap_servers(self) -> str:
        """Give the broker's address, starting the broker the first time."""
        return self.kafka().bootstrap_servers

    def kafka(self) -> EmbeddedKafka:
        """Give the broker, starting it the first time."""
        if self._kafka is None:
            kafka = self._create_kafka()
            kafka.prepare()
            kafka.start()
            self._kafka = kafka
            kafka.wait_until_ready()
        return self._kafka

    def postgres(self) -> EmbeddedPostgres:
        """Give PostgreSQL, starting it the first time."""
        if self._postgres is None:
            settings = {"fsync": "off", "full_page_writes": "off"} if self._hasty else {}
            postgres = EmbeddedPostgres(self._root / "postgres", settings=settings)
            postgres.prepare()
            postgres.start()
            self._postgres = postgres
            postgres.wait_until_ready()
        return self._postgres

    def create_database(self, *, migrated: bool = True) -> str:
        """Create a database of its own (every service's schema in it, unless asked not) and give its name."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {self._template() if migrated else 'template0'}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, and whoever is still connected to it."""
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def create_topics(self, *, results: int = 3) -> str:
        """Create the four topics under a prefix of their own and give the prefix.

        `results`: partitions of those that hold no requests; production has 12, each of which costs 10 ms of CPU here.
        """
        prefix = f"t{uuid.uuid4().hex[:8]}."
        run_apart(_create_topics(KafkaAccess(self.bootstrap_servers()), Topics(prefix), results))
        return prefix

    def drop_topics(self, prefix: str) -> None:
        """Delete every topic under a prefix."""
        run_apart(_delete_topics(self.bootstrap_servers(), prefix))

    def stop(self) -> None:
        """Stop what was started and remove its data."""
        if self._is_guest:
            return
        if self._kafka is not None:
            self._kafka.stop()
        if self._postgres is not None:
            self._postgres.stop()
        shutil.rmtree(self._root, ignore_errors=True)

    def _create_kafka(self) -> EmbeddedKafka:
        cache = read_cache_settings()
        return EmbeddedKafka(self._root / "kafka", *self._ports, cache_dir=cache.directory, java_home=cache.java_home)

    def _template(self) -> str:
        if not self._has_template:
            self._execute(f"CREATE DATABASE {_TEMPLATE} TEMPLATE template0")
            run_apart(migrate_all(self.postgres().database_url(_TEMPLATE)))
            self._has_template = True
        return _TEMPLATE

    def _execute(self, statement: str) -> None:
        run_apart(_execute(self.postgres().database_url(), statement))


async def _execute(database_url: str, statement: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _create_topics(kafka: KafkaAccess, topics: Topics, results: int) -> None:
    plan = TopicPlan(partitions=results)
    admin = AIOKafkaAdminClient(**kafka.options())
    await admin.start()
    try:
        names = set(topics.all()) - {topics.requested}
        await admin.create_topics([NewTopic(name, plan.partitions, 1, topic_configs=plan.config()) for name in names])
    finally:
        await admin.close()
    await create_topics(kafka, topics, "create")


async def _delete_topics(bootstrap_servers: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        mine = [name for name in await admin.list_topics() if name.startswith(prefix)]
        if mine:
            await admin.delete_topics(mine)
    finally:
        await admin.close()
