"""What leaves of a group that has fallen due, and what comes again."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson

from services.scheduler.waiting.delayed import Expiry
from services.scheduler.waiting.release import Releaser
from services.scheduler.waiting.store import SchedulerStore
from shared.due import DueRow
from shared.producing import Message
from shared.publisher import OutcomeUnknown, Publisher, PublishError

NINE = datetime(2030, 1, 1, 9, tzinfo=UTC)
EXPIRY = Expiry(timedelta(hours=72), timedelta(days=7))
LIMIT = 1000


class Topic(Publisher):
    """Takes all, but does not acknowledge what has `lost` as its subject."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []

    async def publish_each(self, messages: Sequence[Message]) -> list[PublishError | None]:
        """As Kafka would."""
        self.published = [orjson.loads(each.value) for each in messages]
        return [OutcomeUnknown("late") if each["subject"] == "lost" else None for each in self.published]


class Store(SchedulerStore):
    """Remembers what was marked."""

    def __init__(self) -> None:
        self.released: list[str] = []

    async def mark_released(self, rows: Sequence[DueRow]) -> None:
        """As PostgreSQL would."""
        self.released = [orjson.loads(row.columns["event"])["subject"] for row in rows]


def lease(subject: str, text: str = "t", **columns: Any) -> DueRow:
    email_id = uuid4()
    event = orjson.dumps({"id": str(email_id), "subject": subject, "text": text, "expires_at": "2030-01-04T09:00:00Z"})
    usual = dict.fromkeys(("traceparent", "expires_at", "rescheduled_at"))
    return DueRow(email_id, uuid4(), {"due_at": NINE, "event": event, **usual, **columns})


async def release(*rows: DueRow) -> tuple[Topic, Store]:
    topic, store = Topic(), Store()
    await Releaser(store, topic, "email.requested", EXPIRY, LIMIT).release(rows)
    return topic, store


async def test_only_what_kafka_has_is_marked() -> None:
    topic, store = await release(lease("a"), lease("lost"), lease("b"))
    assert [each["subject"] for each in topic.published] == ["a", "lost", "b"]
    assert store.released == ["a", "b"]


async def test_a_mail_that_became_too_large_holds_up_none_behind_it() -> None:
    topic, store = await release(lease("large", text="x" * LIMIT), lease("b"))
    assert [each["subject"] for each in topic.published] == store.released == ["b"]
    assert (await release(lease("large", text="x" * LIMIT)))[0].published == []


async def test_expiry_by_default_goes_with_the_time_and_one_that_was_named_stays() -> None:
    moved, named = NINE + timedelta(days=1), NINE + timedelta(hours=30)
    rows = (
        lease("as stored"),
        lease("moved", due_at=moved, rescheduled_at=NINE),
        lease("named", due_at=moved, rescheduled_at=NINE, expires_at=named),
    )
    topic, _ = await release(*rows)
    found = [datetime.fromisoformat(each["expires_at"]) for each in topic.published]
    assert found == [NINE + timedelta(hours=72), moved + timedelta(hours=72), named]


async def test_a_mail_moved_to_a_time_that_is_long_over_leaves_at_once_and_has_not_expired() -> None:
    topic, _ = await release(lease("moved", due_at=NINE - timedelta(days=3650), rescheduled_at=NINE))
    assert datetime.fromisoformat(topic.published[0]["expires_at"]) == NINE + timedelta(hours=72)
