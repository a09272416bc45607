"""The embedded Kafka and PostgreSQL do what the services rely on."""

import asyncio
import os
import signal
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.children import wait_until
from deploy.local.kafka import EmbeddedKafka
from deploy.local.ports import find_free_port
from deploy.local.settings import read_cache_settings
from deploy.local.topics import create_topics
from shared.kafka_access import KafkaAccess
from shared.topics import Topics, prepare_topics
from tests.support.servers import RealServers
from tests.support.stack import Stack


async def test_broker_stamps_records_with_its_own_time(stack: Stack) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers, acks="all", enable_idempotence=True)
    consumer = AIOKafkaConsumer(
        stack.topics.requested, bootstrap_servers=stack.bootstrap_servers, auto_offset_reset="earliest"
    )
    async with producer, consumer:
        await producer.send_and_wait(stack.topics.requested, b"{}", timestamp_ms=1)
        record = await consumer.getone()
    assert record.timestamp_type == 1, "LogAppendTime"
    assert record.timestamp > 1_700_000_000_000


async def test_topics_exist_and_others_are_not_created_by_writing_to_them(real_servers: RealServers) -> None:
    prefix = f"t{uuid4().hex[:8]}."
    topics = Topics(prefix)
    await create_topics(KafkaAccess(real_servers.bootstrap_servers()), topics, "create")
    admin = AIOKafkaAdminClient(bootstrap_servers=real_servers.bootstrap_servers())
    await admin.start()
    try:
        await admin.describe_topics([f"{prefix}nobody"])
        described = await admin.describe_topics(list(topics.all()))
        existing = await admin.list_topics()
    finally:
        await admin.close()
        await asyncio.to_thread(real_servers.drop_topics, prefix)
    assert f"{prefix}nobody" not in existing
    assert [len(topic["partitions"]) for topic in described] == [12, 12, 12, 12]


async def test_database_is_durable_and_private(own_servers: RealServers) -> None:
    connection = await asyncpg.connect(own_servers.postgres().database_url())
    try:
        assert await connection.fetchval("show server_version_num") >= "180000"
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await connection.fetchval(f"show {setting}") == "on"
        assert await connection.fetchval("show listen_addresses") == ""
    finally:
        await connection.close()


async def test_each_test_has_a_database_of_its_own(real_servers: RealServers, database_url: str) -> None:
    other = real_servers.create_database()
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("create table mine (id int)")
        neighbour = await asyncpg.connect(real_servers.postgres().database_url(other))
        with pytest.raises(asyncpg.UndefinedTableError):
            await neighbour.execute("select * from mine")
        await neighbour.close()
    finally:
        await connection.close()
        real_servers.drop_database(other)


async def test_killed_broker_comes_back_with_all_it_has_acknowledged(tmp_path: Path) -> None:
    cache = read_cache_settings()
    kafka = EmbeddedKafka(
        tmp_path,
        find_free_port(),
        find_free_port(),
        cache_dir=cache.directory,
        java_home=cache.java_home,
    )
    kafka.prepare()
    kafka.start()
    try:
        kafka.wait_until_ready()
        topics = Topics()
        await prepare_topics(KafkaAccess(kafka.bootstrap_servers), topics, "create")
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all") as producer:
            for number in range(20):
                await producer.send_and_wait(topics.sent, str(number).encode())
        assert kafka.pid is not None
        os.kill(kafka.pid, signal.SIGKILL)
        assert wait_until(lambda: not kafka.is_running(), timeout_s=5)
        kafka.start()
        kafka.wait_until_ready()
        consumer = AIOKafkaConsumer(
            topics.sent, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest"
        )
        async with consumer:
            found = {(await consumer.getone()).value for _ in range(20)}
        assert found == {str(number).encode() for number in range(20)}
    finally:
        kafka.stop()
