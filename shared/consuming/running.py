"""The process: our parts in Faust's tree of services, liveness, and a bound on how long stopping may take."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import faust
import mode
import structlog

from shared.consuming.consumer import FAUST_LOG, WATCHDOG_S, Admission, ConsumerOptions, FaustLane
from shared.membership import Membership, watch_membership
from shared.positions import watch_positions
from shared.process import Part, calm_collector, has_failed, start_watchdog

log = structlog.get_logger(__name__)


class _PartService(mode.Service):
    """One of our parts in Faust's tree of services: started before the app, stopped after it."""

    logger = FAUST_LOG

    def __init__(self, part: Part, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._part = part

    async def on_start(self) -> None:
        await self._part.start()

    async def on_stop(self) -> None:
        await self._part.stop()


class _Liveness(mode.Service):
    """Ends a process that holds work and gets nowhere, or that its group no longer knows.

    Progress counts, not lag (a transaction marker leaves a lag of 1 for ever) and not a running process.
    """

    logger = FAUST_LOG

    def __init__(
        self,
        lane: FaustLane,
        stalled_after_s: float,
        paused: Callable[[], bool],
        membership: Membership,
        admission: Admission,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._lane = lane
        self._stalled_after_s = stalled_after_s
        self._paused = paused
        self._membership = membership
        self._admission = admission

    @mode.Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(1.0)
            self._lane.show_state()
            if self._lane.closing_since:
                continue  # no consumer any more, and the watchdog bounds what is left
            if self._paused() or not self._lane.busy:
                self._lane.last_progress = time.monotonic()
            elif time.monotonic() - self._lane.last_progress > self._stalled_after_s:
                await self._end("no progress", f"{self._stalled_after_s:.0f} s")
            fault = await self._membership.find_fault()
            if fault:
                await self._end("membership lost", fault)

    async def _end(self, event: str, why: str) -> None:
        """At once: stopping could hang on the very thing. No record is to blame for it."""
        log.error(f"{event}, exiting", why=why)
        await self._admission.leave()
        os._exit(1)


def _find_coordinator(app: faust.App) -> Any:
    """aiokafka's coordinator under Faust's consumer; None before it has started and after it has stopped."""
    thread: Any = getattr(app.consumer, "_thread", None)
    return getattr(getattr(thread, "_consumer", None), "_coordinator", None)


class _QuietWorker(faust.Worker):
    """Faust's worker without its own logging set-up, and with a bound on how long stopping may take."""

    logger = FAUST_LOG

    def _setup_logging(self) -> None:
        """shared/logs.py has done it."""

    async def stop(self) -> None:
        """However the end came, by a signal or a crash: it has a bound."""
        start_watchdog(WATCHDOG_S)
        await super().stop()


def run_faust(
    app: faust.App,
    parts: Sequence[Part],
    lane: FaustLane,
    options: ConsumerOptions,
    paused: Callable[[], bool],
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Run until a signal, then drain, abandon and stop. Never returns normally (SystemExit).

    `paused` tells that nothing can be sent now, so no progress is expected. `parts` outlive the app, so that
    database, producer and relay serve the drain. With Kafka away at the start the process ends with code 1 in
    about 2 s: the supervisor starts it again.
    """
    options.datadir.mkdir(parents=True, exist_ok=True)
    watch_positions()
    services = [_PartService(part) for part in parts]
    worker = _QuietWorker(
        app,
        *services,
        _Liveness(
            lane,
            options.stalled_after_s,
            paused,
            watch_membership(lambda: _find_coordinator(app), options.kafka),
            app.consumer.admission,
        ),
        quiet=True,
        loglevel=logging.WARNING,
        redirect_stdouts=False,
        override_logging=False,
        loop=loop,
    )
    calm_collector()
    try:
        worker.execute_from_commandline()
    finally:
        if has_failed():
            raise SystemExit(1)
