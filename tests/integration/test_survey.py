"""The broker's settings are judged when a worker starts: said, counted, and never in the way of the start."""

import asyncio
import time
from datetime import timedelta

import httpx
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from deploy.local.ports import find_free_port
from shared.kafka_access import KafkaAccess
from shared.retention import Demand, find_breaches
from shared.survey import Survey, observe_cluster
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.stack import Stack

SAID = "a setting endangers a promise"
GAUGE = 'milena_setting_breaches{setting="'


async def read_breaches(process: ServiceProcess) -> set[str]:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{process.url}/metrics")).text
    return {line.removeprefix(GAUGE).split('"')[0] for line in text.splitlines() if line.startswith(GAUGE)}


async def wait_said(process: ServiceProcess, words: str) -> str:
    async with asyncio.timeout(20):
        while words not in process.read_log():
            await asyncio.sleep(0.05)
    return process.read_log()


async def test_the_local_stack_keeps_every_promise(services: ServiceRunner, stack: Stack) -> None:
    workers = [services.start(f"services.{name}", "worker") for name in ("scheduler", "callback")]
    for worker in workers:
        said = await wait_said(worker, "one broker: ")
        assert SAID not in said
        assert await read_breaches(worker) == set()


async def test_a_breach_is_a_warning_and_a_metric_and_stops_nobody(services: ServiceRunner, stack: Stack) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    shorter = {"retention.ms": str(5 * 86_400_000), "max.message.bytes": "1114112", "cleanup.policy": "compact"}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, stack.topics.requested, shorter)])
    await admin.close()
    worker = services.start("services.scheduler", "worker", env={"MILENA_DELAYED_RETENTION_DAYS": "4"})
    said = await wait_said(worker, "MILENA_DELAYED_RETENTION_DAYS")
    await worker.wait_ready()
    named = {
        f"{stack.topics.requested} retention.ms",
        f"{stack.topics.requested} cleanup.policy",
        "MILENA_DELAYED_RETENTION_DAYS",
    }
    assert named <= await read_breaches(worker)
    warnings = [line for line in said.splitlines() if SAID in line]
    assert all("warning" in line and "required=" in line and "consequence=" in line for line in warnings)
    assert all(any(name in line for line in warnings) for name in named)


async def test_every_setting_that_is_judged_is_one_the_broker_tells(stack: Stack) -> None:
    observed = await observe_cluster(stack.kafka, stack.topics.all())
    assert observed.broker_count == 1
    assert observed.unseen == {}
    assert set(observed.topics) == set(stack.topics.all())
    (broker,) = observed.brokers.values()
    for config, names in (
        (broker, {"offsets.retention.minutes", "transaction.max.timeout.ms"}),
        (
            observed.topics[stack.topics.requested],
            {
                "retention.ms",
                "retention.bytes",
                "cleanup.policy",
                "message.timestamp.type",
                "max.message.bytes",
                "min.insync.replicas",
                "unclean.leader.election.enable",
            },
        ),
    ):
        assert set(config) == names
        assert all(config.values())


async def test_what_the_broker_does_not_tell_is_named_and_no_breach(stack: Stack) -> None:
    observed = await observe_cluster(stack.kafka, ["no.such.topic"])
    assert observed.unseen == {"no.such.topic": "UnknownTopicOrPartitionError"}
    assert find_breaches(Demand(("no.such.topic",), 1024 * 1024), observed) == []


async def test_kafka_away_holds_up_neither_start_nor_stop() -> None:
    nobody = KafkaAccess(f"127.0.0.1:{find_free_port()}")
    survey = Survey(nobody, Demand(("t",), 1024), patience=timedelta(milliseconds=50))
    began = time.monotonic()
    await survey.start()
    assert time.monotonic() - began < 0.2
    await asyncio.sleep(0.4)
    await survey.stop()
    assert time.monotonic() - began < 2
