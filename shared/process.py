"""A worker process without Faust: start its parts in order, wait for a signal, stop them in reverse."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Sequence
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)
_fault = threading.Event()


class Part(Protocol):
    """Something with a life of its own inside a process."""

    async def start(self) -> None:
        """Begin; returns when begun."""

    async def stop(self) -> None:
        """End; returns when ended."""


async def run_parts(parts: Sequence[Part], *, grace_s: float = 30.0) -> None:
    """Run until SIGTERM or SIGINT, then stop what was started, last first.

    Ends with exit code 1 (SystemExit) after `fail_process`, and where stopping lasts longer than `grace_s`.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    started: list[Part] = []
    try:
        for part in parts:
            if ended.is_set():
                break
            await part.start()
            started.append(part)
        else:
            calm_collector()
            log.info("started", pid=os.getpid())
        await ended.wait()
    finally:
        start_watchdog(grace_s)
        for part in reversed(started):
            await part.stop()
    log.info("stopped")
    if has_failed():
        raise SystemExit(1)


def fail_process(why: str) -> None:
    """A fault this process cannot work around: stop cleanly with exit code 1; the supervisor starts a fresh one."""
    if not _fault.is_set():
        log.error("giving up, the process ends", why=why)
    _fault.set()
    os.kill(os.getpid(), signal.SIGTERM)


def has_failed() -> bool:
    """Whether `fail_process` has been called."""
    return _fault.is_set()


def calm_collector() -> None:
    """Keep the garbage collector from what lives as long as the process, and let it look less often.

    A worker makes hundreds of containers a mail, nearly all gone by reference counting: at the default threshold the
    collector ran every third mail, a tenth of a sender's CPU (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def start_watchdog(grace_s: float) -> None:
    """End the process, whatever hangs, once `grace_s` have passed. A thread: the loop itself may be what hangs."""

    def end() -> None:
        log.error("did not stop in time, exiting", grace_s=grace_s)
        os._exit(1)

    timer = threading.Timer(grace_s, end)
    timer.daemon = True
    timer.start()
