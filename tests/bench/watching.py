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


OnLook = Callable[[int], None]
"""Told the count at every look."""


def ignore(_count: int) -> None:
    """For those who wait only for the end."""


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
    step_s: float = _STEP_S,
    on_look: OnLook = ignore,
) -> int:
    """Wait until `count()` is at least `wanted`, however long it takes while the number grows; gives it.

    Looks every `step_s`: longer where a look is work for what is measured.

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
        await asyncio.sleep(step_s)


async def wait_quiet(
    count: Callable[[], int], at_least: int, what: str, processes: Sequence[Watchable], *, quiet_s: float = 2.0
) -> tuple[int, float]:
    """Wait until so many have come, and no more for `quiet_s`; gives how many, and when (monotonic) the last one came.

    For loads whose last requests may count or not: the client was cut off before their answers. Raises NotMeasured.
    """
    last, grew = -1, time.monotonic()

    def note(now: int) -> None:
        nonlocal last, grew
        if now > last:
            last, grew = now, time.monotonic()

    await wait_count(count, at_least, what, processes, on_look=note)
    while time.monotonic() - grew < quiet_s:
        await asyncio.sleep(_STEP_S)
        note(count())
    return last, grew


def _check(processes: Sequence[Watchable]) -> None:
    for process in processes:
        if process.returncode:
            raise NotMeasured(f"{process.name} ended with {process.returncode}:\n{process.read_log()[-1000:]}")


def _quote(processes: Sequence[Watchable]) -> str:
    said = _CONTROL.sub("", processes[0].read_log()[-500:]).strip() if processes else ""
    return f"; {processes[0].name} says last:\n{said}" if said else ""
