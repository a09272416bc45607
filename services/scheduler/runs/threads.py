"""Where jobs run: plain ones in a thread each, async ones on a loop of their own, so that none can stop this process.

Nobody can end a thread. A plain job beyond its limit is left to itself. Async jobs share one loop for the life of the
process, for they keep what belongs to a loop (pools, clients) in their modules: one that blocks holds up the others,
and where it does not stop, only a fresh process helps.
"""

import asyncio
import contextlib
import contextvars
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any

import structlog

from services.scheduler.runs.endings import say
from services.scheduler.runs.job import Job
from shared.metrics import JOBS_STUCK

log = structlog.get_logger(__name__)

_BLOCKED_S = 2.0  # then it is said
_HOPELESS_S = 30.0  # then the process ends


class TimeLimitExceeded(Exception):
    """The attempt has taken longer than it may."""


class _Loop:
    """A thread with a loop on which async jobs run."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._answered = time.monotonic()
        self._asked = False
        threading.Thread(target=self._run, name="async jobs", daemon=True).start()

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


class JobThreads:
    """Calls jobs.

    Once `on_stuck` is told (of `stuck_limit` threads), or `on_blocked` (of the loop), a fresh process is the only help.
    """

    def __init__(self, *, stuck_limit: int, on_stuck: Callable[[str], None], on_blocked: Callable[[str], None]) -> None:
        self._stuck_limit = stuck_limit
        self._on_stuck = on_stuck
        self._on_blocked = on_blocked
        self._stuck: set[threading.Thread] = set()
        self._loop: _Loop | None = None
        self._is_blocked = False

    async def call(self, job: Job, given: dict[str, Any], limit_s: float) -> Any:
        """What the job returns. Raises TimeLimitExceeded, and whatever the job raises; may be cancelled."""
        if job.built_in:
            return await _within(job.function(**given), limit_s)
        if job.is_async:
            return await self._call_async(job, given, limit_s)
        return await self._call_plain(job, given, limit_s)

    async def _call_async(self, job: Job, given: dict[str, Any], limit_s: float) -> Any:
        if self._loop is None:
            self._loop = _Loop()
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
        """Threads that have not ended although their run has."""
        self._stuck = {thread for thread in self._stuck if thread.is_alive()}
        return len(self._stuck)

    def watch(self) -> None:
        """Look after threads and loops; to be called every second or so."""
        silent_s = self._loop.measure_silence() if self._loop else 0.0
        if silent_s > _BLOCKED_S and not self._is_blocked:
            log.error("an async job blocks the loop of all: let it await, or be a plain function")
        self._is_blocked = silent_s > _BLOCKED_S
        stuck = self.stuck
        JOBS_STUCK.set(stuck + self._is_blocked)
        if silent_s > _HOPELESS_S:
            self._on_blocked(f"an async job has blocked its loop for {silent_s:.0f} s")
        if stuck >= self._stuck_limit:
            self._on_stuck(f"{stuck} jobs do not end, and cannot be ended")


def _run_plain(job: Job, given: dict[str, Any], future: Future[Any]) -> None:
    try:
        returned = job.function(**given)
    except BaseException as exc:
        _resolve(future.set_exception, _make_raisable(exc))
    else:
        if inspect.iscoroutine(returned):  # of an async function under a decorator that is none
            returned.close()
            _resolve(future.set_exception, TypeError("gave back a coroutine: make the job an async function"))
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
    return RuntimeError(f"the job raised {type(exc).__name__}: {say(exc)}")


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
    # What an executor raises for a future that was cancelled becomes asyncio's CancelledError on its way here.
    if task.cancelled() or isinstance(task.exception(), asyncio.CancelledError):
        raise RuntimeError("the job was cancelled from within")
    return task.result()


def _give_up(task: asyncio.Future[Any]) -> None:
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    task.cancel()
