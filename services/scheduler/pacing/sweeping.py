"""What has to be looked after at times: lanes that were cancelled, mails nothing is heard of, and the metrics."""

import asyncio
import time
from datetime import timedelta

import structlog

from services.scheduler.pacing.settling_store import SettlingStore
from services.scheduler.pacing.store import PacingStore
from shared.metrics import BULK_IN_FLIGHT, BULK_WAITING_SECONDS, BULK_WINDOW
from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

_PAUSE_S = 0.25
_CANCELLED_AT_ONCE, _GIVEN_UP_AT_ONCE = 1000, 1000
_MEASURED_EVERY_S, _SWEPT_EVERY_S = 5.0, 30.0
_STALE_AFTER, _GIVEN_UP_AFTER = timedelta(minutes=5), timedelta(days=1)


class Sweeper:
    """A part of a process. Several may sweep at the same time."""

    def __init__(self, store: PacingStore, settling: SettlingStore) -> None:
        self._store = store
        self._settling = settling
        self._task: asyncio.Task[None] | None = None
        self._measured = self._swept = time.monotonic()

    async def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name="bulk-sweeping")

    async def stop(self) -> None:
        """End at once: each statement is a whole."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task])

    async def sweep(self) -> bool:
        """One round; whether there may be more to do at once. Raises Unavailable."""
        cancelled = await self._settling.cancel_lanes(_CANCELLED_AT_ONCE)
        now = time.monotonic()
        if now - self._measured > _MEASURED_EVERY_S:
            self._measured = now
            window, age_s = await self._store.measure_waiting()
            BULK_WINDOW.set(window.size)
            BULK_IN_FLIGHT.set(window.in_flight)
            BULK_WAITING_SECONDS.set(age_s)
        if now - self._swept > _SWEPT_EVERY_S:
            self._swept = now
            await self._settling.note_oldest()
            stale = await self._settling.release_stale(_STALE_AFTER)
            lost = await self._settling.give_up(_GIVEN_UP_AFTER, _GIVEN_UP_AT_ONCE)
            if stale or lost:
                log.warning("bulk mail without results left the window", waiting_elsewhere=stale, expired=lost)
        return cancelled == _CANCELLED_AT_ONCE

    async def _run(self) -> None:
        while True:
            try:
                goes_on = await self.sweep()
            except Unavailable as exc:
                log.warning("sweeping waits", error=str(exc))
                goes_on = False
            except Exception:
                log.exception("sweeping failed")
                goes_on = False
            await asyncio.sleep(0 if goes_on else _PAUSE_S)
