"""Topics that can be used at once."""

import asyncio
import time

from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.errors import StackError
from shared.kafka_access import KafkaAbsent, KafkaAccess
from shared.topics import Topics, TopicsMissing, prepare_topics

_TIMEOUT_S = 30.0


async def create_topics(kafka: KafkaAccess, topics: Topics, mode: str) -> None:
    """Prepare the topics and wait until every partition has a leader.

    A broker answers that a topic is created a moment before it is usable; until then each client that starts
    complains of unknown topics and missing leaders. Raises StackError.
    """
    try:
        await prepare_topics(kafka, topics, mode)
    except (TopicsMissing, KafkaAbsent) as exc:
        raise StackError(str(exc)) from exc
    admin = AIOKafkaAdminClient(**kafka.options())
    await admin.start()
    try:
        deadline = time.monotonic() + _TIMEOUT_S
        while not await _has_leaders(admin, topics):
            if time.monotonic() > deadline:
                raise StackError(f"some topics still have no leader {_TIMEOUT_S:.0f} s after they were created.")
            await asyncio.sleep(0.02)
    finally:
        await admin.close()


async def _has_leaders(admin: AIOKafkaAdminClient, topics: Topics) -> bool:
    described = await admin.describe_topics(list(topics.all()))
    return all(
        topic["error_code"] == 0
        and topic["partitions"]
        and all(part["error_code"] == 0 and part["leader"] >= 0 for part in topic["partitions"])
        for topic in described
    )
