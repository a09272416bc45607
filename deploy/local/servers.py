"""The servers behind the services: embedded, or those the environment names."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import asyncpg

from deploy.local.errors import StackError
from deploy.local.kafka import EmbeddedKafka
from deploy.local.migrations import migrate_all
from deploy.local.output import Output
from deploy.local.paths import DataPaths
from deploy.local.ports import Ports
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.restarts import RestartPolicy
from deploy.local.settings import StackSettings, read_cache_settings
from deploy.local.topics import create_topics
from shared.topics import Topics

DATABASE = "milena"


class Server(Protocol):
    """An embedded server: prepared in any thread, started from the main one."""

    def prepare(self) -> None:
        """Create what it needs on disk."""

    def start(self) -> None:
        """Start it."""

    def wait_until_ready(self) -> None:
        """Wait until it answers."""

    def is_running(self) -> bool:
        """Say whether its process is alive."""

    def stop(self) -> None:
        """Stop it in order."""


class Servers:
    """Kafka and PostgreSQL of one stack, kept running until ``stop``."""

    def __init__(self, settings: StackSettings, paths: DataPaths, ports: Ports, output: Output) -> None:
        self._settings = settings
        self._output = output
        self._kafka: EmbeddedKafka | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._keepers: list[asyncio.Task[None]] = []
        self.bootstrap_servers = settings.kafka_bootstrap_servers or ""
        self.database_url = settings.database_url.get_secret_value() if settings.database_url else ""
        if not self.bootstrap_servers:
            cache = read_cache_settings()
            self._kafka = EmbeddedKafka(
                paths.kafka,
                ports.kafka,
                ports.kafka_controller,
                cache_dir=cache.directory,
                java_home=cache.java_home,
                say=output.say,
            )
            self.bootstrap_servers = self._kafka.bootstrap_servers
        if not self.database_url:
            self._postgres = EmbeddedPostgres(paths.postgres)
            self.database_url = self._postgres.database_url(DATABASE)

    async def start(self) -> None:
        """Start both at once; topics exist and schemas are migrated afterwards. Raises StackError."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._start_kafka())
                both.create_task(self._start_postgres())
        except* StackError as group:
            raise group.exceptions[0] from None

    async def stop(self) -> None:
        """Stop both, Kafka first: PostgreSQL is there until the last."""
        for keeper in self._keepers:
            keeper.cancel()
        for server in (self._kafka, self._postgres):
            if server is not None:
                await asyncio.to_thread(server.stop)

    async def _start_kafka(self) -> None:
        if self._kafka is not None:
            await self._start_server("kafka", self._kafka)
        topics = Topics(self._settings.topic_prefix)
        await create_topics(self._settings.reach_kafka(self.bootstrap_servers), topics, self._settings.topic_mode)

    async def _start_postgres(self) -> None:
        if self._postgres is not None:
            await self._start_server("postgres", self._postgres)
            await _ensure_database(self._postgres.database_url(), DATABASE)
        await migrate_all(self.database_url)

    async def _start_server(self, name: str, server: Server) -> None:
        began = time.monotonic()
        await asyncio.to_thread(server.prepare)
        server.start()
        await asyncio.to_thread(server.wait_until_ready)
        self._output.say_for(name, f"ready after {time.monotonic() - began:.1f} s")
        self._keepers.append(asyncio.create_task(keep_running(name, server, self._output.say_for)))


async def keep_running(name: str, server: Server, say_for: Callable[[str, str], None]) -> None:
    """Start an embedded server again whenever it has ended, until cancelled."""
    policy = RestartPolicy()
    while True:
        began = time.monotonic()
        while server.is_running():
            await asyncio.sleep(0.2)
        delay = policy.delay_after(time.monotonic() - began)
        say_for(name, f"ended; starting it again in {delay:g} s")
        await asyncio.sleep(delay)
        try:
            server.start()
            await asyncio.to_thread(server.wait_until_ready)
            say_for(name, "ready again")
        except StackError as exc:
            say_for(name, str(exc))


async def _ensure_database(server_url: str, name: str) -> None:
    connection = await asyncpg.connect(server_url)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
