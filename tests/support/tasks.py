"""Tasks in tests: made through the store, made due at once, followed to the end of their runs."""

import asyncio
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from services.scheduler.runs.occurrence import Occurrence, OccurrenceState
from services.scheduler.runs.occurrence_store import OccurrenceStore, read_occurrence
from services.scheduler.tasks.store import TaskStore, read_task
from services.scheduler.tasks.task import Creator, Task, TaskDefinition, Timing
from shared.database import Database

THIRD_PARTY = Path(__file__).parent / "third_party"
"""A directory as pip leaves it, with a package of jobs; for PYTHONPATH."""

EVERY_MINUTE, EVERY_YEAR = Timing(recurring_interval="EVERY_MINUTE"), Timing(recurring_interval="EVERY_YEAR")


class Tasks:
    """The tasks of one account on one database."""

    def __init__(self, database: Database, account: str = "default") -> None:
        self.database = database
        self.account = account
        self.store = TaskStore(database)
        self.runs = OccurrenceStore(database)

    async def create(self, name: str, job_name: str, args: dict[str, Any] | None = None, **fields: Any) -> Task:
        """Make a task; by itself it is not due in the time of a test, where `timing` says nothing else."""
        fields.setdefault("timing", EVERY_YEAR)
        definition = TaskDefinition(name=name, job_name=job_name, args=args or {}, **fields)
        return await self.store.create(self.account, definition, Creator("key-1", "test key"))

    async def create_due(self, name: str, job_name: str, args: dict[str, Any] | None = None, **fields: Any) -> Task:
        """Make a task that is due now."""
        task = await self.create(name, job_name, args, **fields)
        await self.make_due(task)
        return task

    async def make_due(self, task: Task, ago: timedelta = timedelta(0)) -> datetime:
        """Let the task have been due some time ago; returns when."""
        rows = await self.database.fetch(
            "UPDATE scheduler.task SET next_due_at = date_trunc('milliseconds', now() - $2::interval) WHERE id = $1"
            " RETURNING next_due_at",
            task.id,
            ago,
        )
        due_at: datetime = rows[0]["next_due_at"]
        return due_at

    async def read(self, task: Task) -> Task:
        """The task as it is now."""
        rows = await self.database.fetch("SELECT * FROM scheduler.task WHERE id = $1", task.id)
        return read_task(rows[0])

    async def list_runs(self, task_id: int) -> list[Occurrence]:
        """Its runs, the first one first."""
        rows = await self.database.fetch(
            "SELECT * FROM scheduler.occurrence WHERE task_id = $1 ORDER BY scheduled_for, id", task_id
        )
        return [read_occurrence(row) for row in rows]

    async def wait_for_end(self, task: Task, count: int = 1, timeout_s: float = 30) -> list[Occurrence]:
        """Wait until so many of its runs have ended, and give them all."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            runs = await self.list_runs(task.id)
            if sum(run.state.has_ended for run in runs) >= count:
                return runs
            await asyncio.sleep(0.02)
        raise AssertionError(f"not {count} runs have ended: {await self.list_runs(task.id)}")

    async def wait_for_state(self, task: Task, state: OccurrenceState, timeout_s: float = 30) -> Occurrence:
        """Wait until its latest run is in a state."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            runs = await self.list_runs(task.id)
            if runs and runs[-1].state is state:
                return runs[-1]
            await asyncio.sleep(0.02)
        raise AssertionError(f"never {state}: {await self.list_runs(task.id)}")

    async def wait_for_run(self, run: Occurrence, timeout_s: float = 30) -> Occurrence:
        """Wait until a run has ended."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = await self.runs.find(self.account, run.id)
            if found and found.state.has_ended:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"has not ended: {found}")
