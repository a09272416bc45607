"""Tasks that fall due become occurrences, and each is told on `schedule.tick`.

Written first, in one transaction with the task's next due time; then published; then marked. Whoever dies in between
leaves a row that somebody else publishes after its lease, under the same id.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from services.scheduler.failures import SOURCE
from services.scheduler.runs.endings import say
from services.scheduler.runs.job import merge_args
from services.scheduler.tasks.arming import build_schedule
from services.scheduler.tasks.firing import Look, Watch, fire
from services.scheduler.tasks.task import Misfire, Task
from services.scheduler.tasks.tick_store import NewRun, Round, TickStore
from shared.due import DueRow
from shared.events import EventType, ScheduleTick, build_headers, derive_occurrence_id
from shared.metrics import RUNS_ENDED, TICKS_PUBLISHED
from shared.producing import Message
from shared.publisher import EventTooLarge, Publisher, PublishError
from shared.retrying import Unavailable
from shared.tracing import SpanKind, begin_hop

log = structlog.get_logger(__name__)

_GROUP = 250  # tasks locked in one transaction: others lock others meanwhile
_IDLE_S = 0.1
_FAILURE_PAUSE_S = 0.5
_AWAY = timedelta(seconds=10)
_MISSED = {"class": "Misfire", "message": "nobody was there at its due time"}


class Firer:
    """Decides about due tasks. `defaults`: arguments by job, under those of a task."""

    def __init__(self, defaults: Mapping[str, Mapping[str, Any]], misfire_after: timedelta) -> None:
        self._defaults = defaults
        self._misfire_after = misfire_after

    def decide(self, tasks: Sequence[Task], look: Look) -> Round:
        """What becomes of these tasks. One that cannot be read any more ends, and says so; it holds up no other."""
        made = Round()
        for task in tasks:
            try:
                self._fire(task, look, made)
            except Exception as exc:
                log.exception("task ends, when it is due next cannot be said", task_id=task.id)
                error = {"class": type(exc).__name__, "message": say(exc)}
                made.runs.append(self._build(task, task.next_due_at or look.now, look, error))
                made.next_due[task.id] = None
        return made

    def _fire(self, task: Task, look: Look, made: Round) -> None:
        definition = task.definition
        assert task.next_due_at is not None, "only armed tasks are due"
        fired = fire(task.next_due_at, build_schedule(definition.timing), definition.misfire, look)
        if fired.missed:
            made.runs.append(self._build(task, fired.missed, look, _MISSED))
        if fired.run_for:
            made.runs.append(self._build(task, fired.run_for, look))
        made.next_due[task.id] = fired.next_due_at

    def _build(self, task: Task, due_at: datetime, look: Look, error: Mapping[str, str] | None = None) -> NewRun:
        definition = task.definition
        args = merge_args(definition.args, self._defaults.get(definition.job_name))
        # From now on, where the clock was set forward and says that the due time is long ago.
        begin_by = max(due_at, look.now) + self._misfire_after if definition.misfire is Misfire.SKIP else None
        return NewRun(derive_occurrence_id(task.id, due_at), task.id, due_at, args, error, begin_by)


class TickPublisher:
    """Publishes leased occurrences, and marks those the broker has acknowledged; the others come again."""

    def __init__(self, store: TickStore, publisher: Publisher, topic: str, patience: timedelta) -> None:
        self._store = store
        self._publisher = publisher
        self._topic = topic
        self._patience = patience

    @property
    def available(self) -> bool:
        """Whether Kafka takes anything now."""
        return self._publisher.available

    async def publish(self, rows: Sequence[DueRow]) -> None:
        """Tell of these occurrences. Raises Unavailable."""
        try:
            ends = await self._publisher.publish_each([self._build(row) for row in rows])
        except EventTooLarge as exc:
            ends = [exc] * len(rows)
        await self._mark([row for row, error in zip(rows, ends, strict=True) if error is None])
        for row, error in zip(rows, ends, strict=True):
            if isinstance(error, EventTooLarge):  # it, or one before it
                await self._publish_alone(row)

    async def _publish_alone(self, row: DueRow) -> None:
        """One larger than the topic allows runs all the same, once its patience has ended; but not elsewhere."""
        try:
            await self._publisher.publish(self._build(row))
        except EventTooLarge as exc:
            log.error(
                "the topic refuses a tick as too large", occurrence_id=str(row.id), task_id=row.columns["task_id"]
            )
            refused = {"class": type(exc).__name__, "message": str(exc)}
            await self._store.mark_published([row], self._patience, refused)
        except PublishError as exc:
            log.warning("a tick was not acknowledged, it comes again", error=str(exc))
        else:
            await self._mark([row])

    async def _mark(self, told: Sequence[DueRow]) -> None:
        if told:
            TICKS_PUBLISHED.inc(len(told))
            await self._store.mark_published(told, self._patience)

    def _build(self, row: DueRow) -> Message:
        columns = row.columns
        tick = ScheduleTick(
            occurrence_id=row.id,
            task_id=columns["task_id"],
            name=columns["name"],
            job_name=columns["job_name"],
            args=columns["args"],
            due_at=columns["scheduled_for"],
            account=columns["account"],
        )
        hop = begin_hop("publish schedule.tick", SpanKind.PRODUCER, None)
        hop.end()
        headers = build_headers(EventType.TICK, row.id, SOURCE, datetime.now(UTC), hop.traceparent)
        return Message(self._topic, str(tick.task_id).encode(), tick.to_json(), headers)


class Ticker:
    """A part of a process: looks for due tasks until stopped.

    While Kafka is known to be away no task fires: what falls due meanwhile is missed, not piled up.
    """

    def __init__(self, store: TickStore, firer: Firer, ticks: TickPublisher, misfire_after: timedelta) -> None:
        self._store = store
        self._firer = firer
        self._ticks = ticks
        self._misfire_after = misfire_after
        self._watch = Watch(_AWAY)
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    async def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name="ticker")

    async def stop(self) -> None:
        """Finish the group at work."""
        task, self._task = self._task, None
        if task:
            self._stopping.set()
            await asyncio.wait([task], timeout=10)
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while not self._stopping.is_set():
            pause_s = _IDLE_S
            try:
                await self._take_turn()
                self._failing = False
            except Unavailable as exc:
                pause_s = _FAILURE_PAUSE_S
                self._report(exc)
            except Exception:
                pause_s = _FAILURE_PAUSE_S
                log.exception("tasks could not be fired")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()

    def _report(self, exc: Unavailable) -> None:
        """An outage is said once."""
        if not self._failing:
            log.warning("tasks wait", error=str(exc))
        self._failing = True

    async def _take_turn(self) -> None:
        if not self._ticks.available:
            return
        now, found = await self._store.look()
        look = self._watch.look(now, time.monotonic(), self._misfire_after)
        while found and self._ticks.available and not self._stopping.is_set():
            due, rows = await self._store.fire(_GROUP, lambda tasks, now: self._decide(tasks, now, look))
            found = due == _GROUP
            skipped = [row for row in rows if row.columns["state"] == "skipped"]
            RUNS_ENDED.labels(outcome="skipped").inc(len(skipped))
            if told := [row for row in rows if row.columns["state"] == "pending"]:
                await self._ticks.publish(told)

    def _decide(self, tasks: Sequence[Task], now: datetime, look: Look) -> Round:
        return self._firer.decide(tasks, replace(look, now=now))
