"""Asking the broker for its settings at the start and every hour, and saying which of them endanger a promise (P13)."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from shared.kafka_access import KafkaAccess
from shared.metrics import SETTING_BREACHES
from shared.retention import Config, Demand, Observed, find_breaches

log = structlog.get_logger(__name__)

_ANSWER_S = 30.0
_TOPIC_SETTINGS = (
    "retention.ms",
    "retention.bytes",
    "cleanup.policy",
    "message.timestamp.type",
    "max.message.bytes",
    "min.insync.replicas",
    "unclean.leader.election.enable",
)
_BROKER_SETTINGS = ("offsets.retention.minutes", "transaction.max.timeout.ms")


async def observe_cluster(kafka: KafkaAccess, topics: Sequence[str]) -> Observed:
    """What the cluster says of these topics and of its brokers. Raises KafkaError, OSError, TimeoutError.

    A resource it will not tell of (no permission, no such topic) is in `unseen`.
    """
    admin = AIOKafkaAdminClient(**kafka.options())
    try:
        async with asyncio.timeout(_ANSWER_S):
            await admin.start()
            cluster = await admin.describe_cluster()
            nodes = [str(broker["node_id"]) for broker in cluster["brokers"]]
            responses = await admin.describe_configs([*_ask_topics(topics), *_ask_brokers(nodes)])
    finally:
        await admin.close()
    found: dict[int, dict[str, Config]] = {ConfigResourceType.TOPIC: {}, ConfigResourceType.BROKER: {}}
    unseen: dict[str, str] = {}
    for code, _, kind, name, entries in (resource for response in responses for resource in response.resources):
        if code:
            unseen[name if kind == ConfigResourceType.TOPIC else f"broker {name}"] = for_code(code).__name__
        else:
            found[kind][name] = {entry[0]: entry[1] for entry in entries}
    return Observed(found[ConfigResourceType.TOPIC], found[ConfigResourceType.BROKER], len(nodes), unseen)


def _ask_topics(topics: Sequence[str]) -> list[Any]:
    return [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(_TOPIC_SETTINGS)) for name in topics]


def _ask_brokers(nodes: Sequence[str]) -> list[Any]:
    return [ConfigResource(ConfigResourceType.BROKER, node, dict.fromkeys(_BROKER_SETTINGS)) for node in nodes]


class Survey:
    """A part of a process: surveys in the background, so that Kafka being away holds up no start."""

    def __init__(
        self,
        kafka: KafkaAccess,
        demand: Demand,
        *,
        every: timedelta = timedelta(hours=1),
        patience: timedelta = timedelta(seconds=10),
    ) -> None:
        self._kafka = kafka
        self._demand = demand
        self._every_s = every.total_seconds()
        self._patience_s = patience.total_seconds()
        self._failing = False
        self._said_single = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name="survey")

    async def stop(self) -> None:
        """End, whatever Kafka does."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s if await self._try_survey() else self._patience_s)

    async def _try_survey(self) -> bool:
        """Whether it was done. Nothing that happens here may end the process: it watches, it does not work."""
        try:
            self._report(await observe_cluster(self._kafka, self._demand.topics))
        except (KafkaError, OSError, TimeoutError) as exc:
            if not self._failing:
                log.warning("the broker's settings cannot be read yet, trying again", error=type(exc).__name__)
            self._failing = True
            return False
        except Exception:
            log.exception("the broker's settings could not be judged")
        self._failing = False
        return True

    def _report(self, observed: Observed) -> None:
        for name, why in observed.unseen.items():
            log.warning(
                "the broker does not tell its settings, so nobody knows whether they keep the promises",
                resource=name,
                error=why,
                needed="the permission DescribeConfigs",
            )
        breaches = find_breaches(self._demand, observed)
        SETTING_BREACHES.clear()
        for breach in breaches:
            SETTING_BREACHES.labels(setting=breach.setting).set(1)
            log.warning(
                "a setting endangers a promise",
                setting=breach.setting,
                value=breach.value,
                required=breach.required,
                consequence=breach.consequence,
            )
        if observed.broker_count == 1 and not self._said_single:
            self._said_single = True
            log.info("one broker: mail survives the death of its process, not the loss of its disk")
