"""Watching mail arrive. The bench sleeps between looks, so it takes next to nothing from what it measures."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from tests.bench.figures import NotMeasured
from tests.bench.programs import measure_cpu_s, measure_resident_mb

WARM_UP = 0.1
"""The share of the mails that has arrived when the clock starts: by then processes and connections are up."""
PATIENCE_S = 30.0
_STEP_S = 0.02
_CONTROL = re.compile(r"\x1b\[[^a-z]*[a-z]|[\x00-\x09\x0b-\x1f]")


class Watchable(Protocol):
    """A process under measurement: one of our services, or a yardstick's."""

    name: str

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def read_log(self) -> str: ...


class Stopwatch:
    """From the warm-up to the last mail: mails a second, CPU and memory of the processes."""

    def __init__(self, processes: Sequence[Watchable], count: int) -> None:
        self._pids = [process.pid for process in processes]
        self._count, self._cpu_s, self._started = count, measure_cpu_s(self._pids), time.monotonic()

    def read(self, count: int) -> dict[str, float]:
        """The figures up to now, when `count` mails are through."""
        seconds, measured = time.monotonic() - self._started, count - self._count
        return {
            "seconds": seconds,
            "mails_per_s": measured / seconds,
            "cpu_us": (measure_cpu_s(self._pids) - self._cpu_s) / measured * 1e6,
            "resident_mb": measure_resident_mb(self._pids),
        }


async def wait_count(
    count: Callable[[], int | Awaitable[int]],
    wanted: int,
    what: str,
    processes: Sequence[Watchable],
    *,
    patience_s: float = PATIENCE_S,
    on_look: Callable[[int], None] = lambda count: None,
) -> int:
    """Wait until `count()` is at least `wanted`, however long it takes while the number grows; gives it.

    Raises NotMeasured when it has not grown for `patience_s`, or a process has ended.
    """
    last, since = -1, time.monotonic()
    while True:
        found = count()
        now = found if isinstance(found, int) else await found
        on_look(now)
        if now >= wanted:
            return now
        if now > last:
            last, since = now, time.monotonic()
        _check(processes)
        if time.monotonic() - since > patience_s:
            raise NotMeasured(f"{now} of {wanted} {what}, and no more for {patience_s:.0f} s{_quote(processes)}")
        await asyncio.sleep(_STEP_S)


def _check(processes: Sequence[Watchable]) -> None:
    for process in processes:
        if process.returncode:
            raise NotMeasured(f"{process.name} ended with {process.returncode}:\n{process.read_log()[-1000:]}")


def _quote(processes: Sequence[Watchable]) -> str:
    said = _CONTROL.sub("", processes[0].read_log()[-500:]).strip() if processes else ""
    return f"; {processes[0].name} says last:\n{said}" if said else ""
