"""Where jobs run: plain ones in a thread each, async ones on a loop of their own, so that none can stop this process.

Nobody can end a thread. A plain job beyond its limit is left to itself; a loop on which something blocks is left to
those who are on it, and the next jobs get a fresh one.
"""

import asyncio
import contextlib
import contextvars
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any

import structlog

from services.scheduler.job import Job
from shared.metrics import JOBS_STUCK

log = structlog.get_logger(__name__)

BLOCKED_S = 2.0


class TimeLimitExceeded(Exception):
    """The attempt has taken longer than it may."""


class _Loop:
    """A thread with a loop on which async jobs run."""

    def __init__(self, number: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name=f"jobs-{number}", daemon=True)
        self._answered = time.monotonic()
        self._asked = False
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def measure_silence(self) -> float:
        """For how many seconds the loop has not answered; to be called again and again."""
        if self._asked:
            return time.monotonic() - self._answered
        self._asked, self._answered = True, time.monotonic()
        self.loop.call_soon_threadsafe(self._answer)
        return 0.0

    def _answer(self) -> None:
        self._asked, self._answered = False, time.monotonic()

    def retire(self) -> None:
        """End once all jobs on it have."""
        asyncio.run_coroutine_threadsafe(self._end(), self.loop)

    async def _end(self) -> None:
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(1)
        self.loop.stop()


class JobThreads:
    """Calls jobs. `on_stuck` is told once so many threads and loops are stuck that a fresh process is the only help."""

    def __init__(self, *, stuck_limit: int, on_stuck: Callable[[str], None]) -> None:
        self._stuck_limit = stuck_limit
        self._on_stuck = on_stuck
        self._stuck: set[threading.Thread] = set()
        self._loop: _Loop | None = None
        self._loops = 0

    async def call(self, job: Job, given: dict[str, Any], limit_s: float) -> Any:
        """What the job returns. Raises TimeLimitExceeded, and whatever the job raises; may be cancelled."""
        if job.built_in:
            return await _within(job.function(**given), limit_s)
        if job.is_async:
            return await self._call_async(job, given, limit_s)
        return await self._call_plain(job, given, limit_s)

    async def _call_async(self, job: Job, given: dict[str, Any], limit_s: float) -> Any:
        if self._loop is None:
            self._loops += 1
            self._loop = _Loop(self._loops)
        future = asyncio.run_coroutine_threadsafe(_keep_ours(job, given), self._loop.loop)
        return await _within(asyncio.wrap_future(future), limit_s)

    async def _call_plain(self, job: Job, given: dict[str, Any], limit_s: float) -> Any:
        future: Future[Any] = Future()
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=lambda: context.run(_run_plain, job, given, future), name=f"job {job.name}", daemon=True
        )
        thread.start()
        try:
            return await _within(asyncio.wrap_future(future), limit_s)
        except (TimeLimitExceeded, asyncio.CancelledError):
            self._stuck.add(thread)
            raise

    @property
    def stuck(self) -> int:
        """Threads that have not ended although their run has, or that block."""
        self._stuck = {thread for thread in self._stuck if thread.is_alive()}
        return len(self._stuck)

    def watch(self) -> None:
        """Look after threads and loops; to be called every second or so."""
        if self._loop and self._loop.measure_silence() > BLOCKED_S:
            log.error("an async job blocks its loop: use await, or a plain function", blocked_s=BLOCKED_S)
            self._stuck.add(self._loop.thread)
            self._loop.retire()
            self._loop = None
        stuck = self.stuck
        JOBS_STUCK.set(stuck)
        if stuck >= self._stuck_limit:
            self._on_stuck(f"{stuck} jobs do not end, and cannot be ended")


def _run_plain(job: Job, given: dict[str, Any], future: Future[Any]) -> None:
    try:
        returned = job.function(**given)
    except BaseException as exc:
        _resolve(future.set_exception, _make_raisable(exc))
    else:
        _resolve(future.set_result, returned)


def _resolve(set_outcome: Callable[[Any], None], outcome: Any) -> None:
    """Unless nobody waits for it any more."""
    with contextlib.suppress(InvalidStateError):
        set_outcome(outcome)


def _make_raisable(exc: BaseException) -> Exception:
    """What ends programs, threads or generators must not end ours."""
    if isinstance(exc, Exception) and not isinstance(exc, StopIteration):
        return exc
    return RuntimeError(f"the job raised {type(exc).__name__}")


async def _keep_ours(job: Job, given: dict[str, Any]) -> Any:
    try:
        return await job.function(**given)
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as exc:
        raise _make_raisable(exc) from exc


async def _within(work: Awaitable[Any], limit_s: float) -> Any:
    """The result, or TimeLimitExceeded. Does not wait for what ignores its cancellation."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=limit_s)
    except asyncio.CancelledError:
        _give_up(task)
        raise
    if not done:
        _give_up(task)
        raise TimeLimitExceeded(f"did not end within {limit_s:g} s")
    if task.cancelled():
        raise RuntimeError("the job was cancelled from within")
    return task.result()


def _give_up(task: asyncio.Future[Any]) -> None:
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    task.cancel()
