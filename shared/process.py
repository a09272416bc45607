"""A worker process without Faust: start its parts in order, wait for a signal, stop them in reverse."""

import asyncio
import os
import signal
import threading
from collections.abc import Sequence
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)


class Part(Protocol):
    """Something with a life of its own inside a process."""

    async def start(self) -> None:
        """Begin; returns when begun."""

    async def stop(self) -> None:
        """End; returns when ended."""


async def run_parts(parts: Sequence[Part], *, grace_s: float = 30.0) -> None:
    """Run until SIGTERM or SIGINT, then stop what was started, last first. A hang ends after `grace_s`, exit 1."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    started: list[Part] = []
    try:
        for part in parts:
            await part.start()
            started.append(part)
        log.info("started", pid=os.getpid())
        await ended.wait()
    finally:
        start_watchdog(grace_s)
        for part in reversed(started):
            await part.stop()
    log.info("stopped")


def start_watchdog(grace_s: float) -> None:
    """End the process, whatever hangs, once `grace_s` have passed. A thread: the loop itself may be what hangs."""

    def end() -> None:
        log.error("did not stop in time, exiting", grace_s=grace_s)
        os._exit(1)

    timer = threading.Timer(grace_s, end)
    timer.daemon = True
    timer.start()
