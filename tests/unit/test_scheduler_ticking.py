"""Ticks that a topic does not take."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import pytest

from services.scheduler.tasks.ticking import TickPublisher
from shared.due import DueRow
from shared.publisher import EventTooLarge, OutcomeUnknown

DUE_AT = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Refusing:
    """A publisher that never gets a tick across."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def publish_each(self, messages: Sequence[object]) -> list[Exception]:
        raise EventTooLarge("the event is larger than the topic allows")

    async def publish(self, message: object) -> None:
        raise self._error


class Store:
    def __init__(self) -> None:
        self.marked: list[Any] = []

    async def mark_published(self, rows: Sequence[DueRow], patience: timedelta, refused: Any = None) -> None:
        self.marked.append(refused)


@pytest.mark.parametrize(
    ("error", "marked"), [(EventTooLarge("too large"), ["EventTooLarge"]), (OutcomeUnknown("no answer"), [])]
)
async def test_a_tick_that_is_too_large_is_marked_as_never_told(error: Exception, marked: list[str]) -> None:
    columns = {"task_id": 1, "name": "n", "job_name": "external:x", "args": {}, "scheduled_for": DUE_AT, "account": "a"}
    store = Store()
    ticks = TickPublisher(cast(Any, store), cast(Any, Refusing(error)), "t", timedelta(seconds=1))
    await ticks.publish([DueRow(uuid4(), uuid4(), columns)])
    assert [each["class"] for each in store.marked] == marked
