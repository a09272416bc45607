"""Jobs in threads and on a loop of their own: what they raise, how long they may take, what a stuck one costs."""

import asyncio
import functools
import threading
from concurrent import futures
from typing import Any
from uuid import uuid4

import pytest
import structlog

from services.scheduler.runs.job import Job, describe_job
from services.scheduler.runs.threads import JobThreads, TimeLimitExceeded


class Watched(JobThreads):
    """What it says is at hand."""

    def __init__(self, stuck_limit: int = 2) -> None:
        self.said: list[str] = []
        super().__init__(stuck_limit=stuck_limit, on_stuck=self.said.append, on_blocked=self.said.append)


def make(function: Any, *, built_in: bool = False) -> Job:
    return describe_job(function.__name__, function, built_in=built_in)


async def test_neither_kind_of_job_runs_on_the_loop_that_holds_the_leases_but_ours_do() -> None:
    async def on_a_loop() -> int:
        return threading.get_ident()

    def in_a_thread() -> int:
        return threading.get_ident()

    threads = Watched()
    found = [await threads.call(make(each), {}, 5) for each in (on_a_loop, on_a_loop, in_a_thread)]
    assert found[0] == found[1]
    assert len({*found, threading.get_ident()}) == 3
    assert await threads.call(make(on_a_loop, built_in=True), {}, 5) == threading.get_ident()


@pytest.mark.parametrize("error", [LookupError("x"), SystemExit(3), KeyboardInterrupt(), StopIteration()])
async def test_what_a_job_raises_is_the_runs_and_ends_nothing_else(error: BaseException) -> None:
    async def on_a_loop() -> None:
        raise error

    def in_a_thread() -> None:
        raise error

    async def goes_on() -> int:
        return 1

    threads = Watched()
    for job in (make(on_a_loop), make(in_a_thread)):
        with pytest.raises((LookupError, RuntimeError)):
            await threads.call(job, {}, 5)
    assert await threads.call(make(goes_on), {}, 5) == 1


@pytest.mark.parametrize("error", [asyncio.CancelledError, futures.CancelledError])
async def test_a_job_that_cancels_itself_or_meets_what_was_cancelled_has_failed(error: type[BaseException]) -> None:
    async def on_a_loop() -> None:
        raise error

    def in_a_thread() -> None:
        raise error

    threads = Watched()
    for job in (make(on_a_loop), make(in_a_thread)):
        with pytest.raises(RuntimeError, match=r"cancelled from within|CancelledError"):
            await threads.call(job, {}, 5)
    assert threads.stuck == 0


async def test_an_async_function_under_a_plain_decorator_is_told_as_what_it_is() -> None:
    async def report() -> None: ...

    @functools.wraps(report)
    def decorated() -> Any:
        return report()

    with pytest.raises(TypeError, match="coroutine"):
        await Watched().call(make(decorated), {}, 5)


async def test_the_message_of_what_would_end_a_program_is_kept() -> None:
    def leaves() -> None:
        raise SystemExit("no such month")

    with pytest.raises(RuntimeError, match="SystemExit: no such month"):
        await Watched().call(make(leaves), {}, 5)


async def test_jobs_beyond_their_limit_are_left_and_threads_among_them_counted() -> None:
    release = threading.Event()

    def hangs() -> None:
        release.wait(30)

    async def waits() -> None:
        await asyncio.sleep(30)

    async def ignores() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)

    threads = Watched()
    for job in (make(waits), make(ignores), make(waits, built_in=True), make(hangs)):
        with pytest.raises(TimeLimitExceeded, match=r"0\.05 s"):
            await threads.call(job, {}, 0.05)
    assert threads.stuck == 1
    threads.watch()
    assert threads.said == []
    with pytest.raises(TimeLimitExceeded):
        await threads.call(make(hangs), {}, 0.05)
    threads.watch()
    assert threads.said == ["2 jobs do not end, and cannot be ended"]
    release.set()
    while threads.stuck:
        await asyncio.sleep(0.01)


async def test_a_loop_that_is_blocked_is_noticed_and_goes_on_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.scheduler.runs.threads._BLOCKED_S", 0.05)
    monkeypatch.setattr("services.scheduler.runs.threads._HOPELESS_S", 0.2)
    release = threading.Event()

    async def blocks() -> None:
        release.wait(30)

    async def other() -> int:
        return 1

    threads = Watched()
    blocked = asyncio.create_task(threads.call(make(blocks), {}, 5))
    while not threads.said:
        await asyncio.sleep(0.02)
        threads.watch()
    assert "has blocked its loop" in threads.said[0]
    release.set()
    await blocked
    assert await threads.call(make(other), {}, 5) == 1


async def test_logs_of_a_job_say_which_run_they_belong_to() -> None:
    def in_a_thread() -> Any:
        return structlog.contextvars.get_contextvars()

    async def on_a_loop() -> Any:
        return structlog.contextvars.get_contextvars()

    run_id = str(uuid4())
    with structlog.contextvars.bound_contextvars(occurrence_id=run_id):
        for job in (make(in_a_thread), make(on_a_loop)):
            assert (await Watched().call(job, {}, 5))["occurrence_id"] == run_id
