"""What a process shows as metrics and must look up for it, anew every few seconds."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from shared.retrying import Unavailable

log = structlog.get_logger(__name__)


class Refresher:
    """Calls `refresh` every `period`, as a part of a process. While what it asks is away, the gauges stay as they were.

    Whatever it raises is of no use to anybody if the process's work ends for it: it is logged.
    """

    def __init__(self, refresh: Callable[[], Awaitable[None]], period: timedelta = timedelta(seconds=15)) -> None:
        self._refresh = refresh
        self._period_s = period.total_seconds()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name="gauges")

    async def stop(self) -> None:
        """End."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._refresh()
            except Unavailable:
                log.debug("gauges not read")
            except Exception:
                log.exception("gauges not read")
            await asyncio.sleep(self._period_s)
