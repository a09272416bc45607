"""The embedded Kafka and PostgreSQL do what the services rely on (killed, too: test_gateway_silent_broker.py)."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.topics import create_topics
from shared.kafka_access import KafkaAccess
from shared.topics import Topics
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
