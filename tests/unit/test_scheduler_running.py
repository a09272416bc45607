"""Runs at work in a process: in which order their store hears of them."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import pytest

from services.scheduler.runs.endings import Ending
from services.scheduler.runs.job import describe_job
from services.scheduler.runs.running import RunPolicy, Runs
from services.scheduler.runs.threads import JobThreads
from shared.database import DatabaseUnavailable
from shared.due import DueRow

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Store:
    """Notes what it hears; showing takes its time, or fails."""

    def __init__(self, fails: bool = False) -> None:
        self.heard: list[str] = []
        self.ended = asyncio.Event()
        self._fails = fails

    async def show_running(self, rows: Sequence[DueRow]) -> None:
        await asyncio.sleep(0.05)
        if self._fails:
            raise DatabaseUnavailable("away")
        self.heard.append("running")

    async def settle(self, endings: Sequence[Ending]) -> None:
        self.heard += [each.state for each in endings]
        self.ended.set()


def build_runs(store: Store) -> Runs:
    async def at_once() -> None: ...

    jobs = {"at_once": describe_job("at_once", at_once, built_in=True)}
    threads = JobThreads(stuck_limit=1, on_stuck=print, on_blocked=print)
    policy = RunPolicy(4, timedelta(seconds=15), 5, 0)
    database: Any = None
    return Runs(database, cast(Any, store), jobs, {}, cast(Any, None), threads, policy)


def build_row() -> DueRow:
    columns = {
        **dict.fromkeys(("task_id", "time_limit_s", "begin_by", "creator_key_id")),
        **{"job_name": "at_once", "name": "n", "account": "default", "args": {}, "test": False, "taken_over": False},
        **{"attempt": 1, "deaths": 0, "failures": 0, "max_attempts": 1, "backoff_s": 1.0},
        **{"scheduled_for": NOW, "started_at": NOW},
    }
    return DueRow(uuid4(), uuid4(), columns)


async def test_a_run_is_shown_to_run_before_its_end_is_written_however_short_it_is() -> None:
    store = Store()
    runs = build_runs(store)
    await runs.start()
    await runs.begin([build_row()])
    await asyncio.wait_for(store.ended.wait(), 5)
    await runs.stop()
    assert store.heard == ["running", "succeeded"]


async def test_a_run_that_cannot_be_shown_runs_all_the_same() -> None:
    store = Store(fails=True)
    runs = build_runs(store)
    await runs.start()
    with pytest.raises(DatabaseUnavailable):
        await runs.begin([build_row()])
    await asyncio.wait_for(store.ended.wait(), 5)
    await runs.stop()
    assert store.heard == ["succeeded"]
