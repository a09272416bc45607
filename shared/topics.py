"""The four topics: their names, what they must be like, and how they come to be.

`create` makes what is missing; `verify` only looks, for clusters where topics are governed by others.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from shared.kafka_access import KafkaAbsent, KafkaAccess

log = structlog.get_logger(__name__)

_PATIENCE_S = 15.0
EVENT_HEADROOM = 64 * 1024  # bytes between the event limit and what Kafka must let through (R8)


class TopicsMissing(Exception):
    """Topics do not exist and may not be created here; the message names them and the way out."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the four topics under one prefix."""

    prefix: str = ""

    @property
    def requested(self) -> str:
        """Mails, bulk events and cancellations; key: email id."""
        return f"{self.prefix}email.requested"

    @property
    def sent(self) -> str:
        """The relay accepted; key: email id."""
        return f"{self.prefix}email.sent"

    @property
    def failed(self) -> str:
        """It did not, for now or for good; key: email id, or none."""
        return f"{self.prefix}email.failed"

    @property
    def tick(self) -> str:
        """The scheduler's occurrences and other facts; key: task id."""
        return f"{self.prefix}schedule.tick"

    def all(self) -> tuple[str, ...]:
        """All four names."""
        return (self.requested, self.sent, self.failed, self.tick)


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What a created topic is like."""

    partitions: int = 12
    replication: int = -1  # the broker's default
    retention: timedelta = timedelta(days=14)
    event_limit: int = 1024 * 1024

    def config(self) -> dict[str, str]:
        """Topic configuration. Size never deletes a mail, only time does (P13)."""
        return {
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": str(int(self.retention.total_seconds() * 1000)),
            "retention.bytes": "-1",
            "max.message.bytes": str(self.event_limit + EVENT_HEADROOM),
            "cleanup.policy": "delete",
        }


async def prepare_topics(kafka: KafkaAccess, topics: Topics, mode: str, plan: TopicPlan | None = None) -> None:
    """Create what is missing (`create`) or raise TopicsMissing (`verify`). Safe to run many times at once.

    A broker that has just started may refuse or lose the first requests: tried again for 15 s, then KafkaAbsent.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await _prepare_once(kafka, topics, mode, plan or TopicPlan())
        except KafkaError as exc:
            if not exc.retriable:
                raise
            absence = await kafka.explain_absence()
            if absence.lasting or time.monotonic() > deadline:
                raise KafkaAbsent(absence.why) from exc
            await asyncio.sleep(0.3)


async def _prepare_once(kafka: KafkaAccess, topics: Topics, mode: str, plan: TopicPlan) -> None:
    admin = AIOKafkaAdminClient(**kafka.options())
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [name for name in topics.all() if name not in existing]
        if missing and mode == "verify":
            raise TopicsMissing(f"topics missing: {', '.join(missing)}; create them, or set MILENA_TOPIC_MODE=create")
        if missing:
            await _create(admin, missing, plan)
            log.info("topics created", topics=missing)
    finally:
        await admin.close()


async def _create(admin: AIOKafkaAdminClient, names: list[str], plan: TopicPlan) -> None:
    wanted = [
        NewTopic(
            name,
            plan.partitions,
            plan.replication,
            replica_assignments={} if plan.replication == -1 else None,
            topic_configs=plan.config(),
        )
        for name in names
    ]
    response: Any = await admin.create_topics(wanted)
    for name, code, *rest in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise KafkaError(f"topic {name} could not be created: {rest[0] if rest else error.__name__}")


async def find_cluster_id(kafka: KafkaAccess) -> str:
    """The cluster's id, part of the identity of records published without one."""
    admin = AIOKafkaAdminClient(**kafka.options())
    await admin.start()
    try:
        described: Any = await admin.describe_cluster()
        return str(described["cluster_id"])
    finally:
        await admin.close()
