"""A worker's look at mailings: whoever waits for one of their jobs need not wait until its task is due.

It also listens whether results come back, all the time: the jobs may run as rarely as their account wants.
"""

import asyncio
import time

import structlog

from services.scheduler.mailings.course.asking_store import AskingStore
from services.scheduler.mailings.course.finish_store import FinishStore
from services.scheduler.mailings.course.round_store import LISTENED_EVERY, RoundStore
from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

_PAUSE_S = 0.5


class MailingWatcher:
    """A part of a process. Several may watch at the same time."""

    def __init__(self, ends: FinishStore, asking: AskingStore, rounds: RoundStore) -> None:
        self._ends = ends
        self._asking = asking
        self._rounds = rounds
        self._listened = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name="mailing-watching")

    async def stop(self) -> None:
        """End at once: each statement is a whole."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task])

    async def look(self) -> None:
        """Ask for the runs that something waits for, and listen when it is time. Raises Unavailable."""
        now = time.monotonic()
        if now - self._listened >= LISTENED_EVERY.total_seconds():
            self._listened = now
            await self._rounds.listen()
        for need in await self._ends.list_needs():
            await self._asking.ask(need.account, need.job)

    async def _run(self) -> None:
        failing = False
        while True:
            try:
                await self.look()
                failing = False
            except Unavailable as exc:
                if not failing:
                    log.warning("mailings wait", error=str(exc))
                failing = True
            except Exception:
                log.exception("looking at mailings failed")
            await asyncio.sleep(_PAUSE_S)
