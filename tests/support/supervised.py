"""A service's process with a restart policy, as a supervisor has: up again within a second of an unexpected end."""

import asyncio
import contextlib
import time
from collections import Counter

import httpx

from tests.support.services import ServiceProcess

_RESTART_AFTER_S = 0.5
_LOOK_EVERY_S = 0.1
_SCRAPE_EVERY_S = 1.0

Sample = Counter[str]
"""Counters by their line's beginning: `milena_claims_total{found="park"}` → value."""


class Supervised:
    """Keeps one process running until it is told to stop, and adds up its counters over all its generations.

    A killed process's last second of counting is lost with it: sums are lower bounds.
    """

    def __init__(self, process: ServiceProcess) -> None:
        self.process = process
        self.restarts = 0
        self.exits: list[int] = []
        """Exit codes of the ends nobody asked for."""
        self._wanted = True
        self._past: Sample = Counter()
        self._present: Sample = Counter()
        self._client = httpx.AsyncClient(timeout=2, trust_env=False)
        self._task = asyncio.create_task(self._watch())

    async def wait_ready(self, timeout_s: float = 60) -> None:
        """Wait until ``/readyz`` answers 200, after a restart that is still to come, too."""
        async with asyncio.timeout(timeout_s):
            while self._wanted and self.process.returncode is not None:
                await asyncio.sleep(_LOOK_EVERY_S)
        await self.process.wait_ready(timeout_s)

    def kill(self) -> None:
        """SIGKILL, now; the restart follows by itself."""
        self.process.kill()

    async def terminate(self, timeout_s: float = 90, *, expected: int = 0) -> float:
        """SIGTERM and wait for the end, without a restart; gives the seconds it took. Fails on another exit code."""
        self._wanted = False
        await self.scrape()
        started = time.monotonic()
        self.process.terminate()
        code = await self.process.wait_exit(timeout_s)
        seconds = time.monotonic() - started
        assert code == expected, f"{self.process.name} ended with {code} at SIGTERM:\n{self.process.read_log()[-4000:]}"
        return seconds

    def start_again(self) -> None:
        """Start a terminated process anew."""
        self._begin_generation()
        self._wanted = True

    async def stop(self) -> None:
        """End the watch, then the process."""
        self._wanted = False
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self.scrape()
        await asyncio.to_thread(self.process.stop)
        await self._client.aclose()

    def count(self, name: str) -> Sample:
        """A counter by its labels, over all generations: `{found="park"}` → value."""
        total = self._past + self._present
        return Counter({key.removeprefix(name): n for key, n in total.items() if key.partition("{")[0] == name})

    async def scrape(self) -> None:
        """Read the counters of the running generation; a process that does not answer keeps its last ones."""
        with contextlib.suppress(httpx.HTTPError):
            text = (await self._client.get(f"{self.process.url}/metrics")).text
            self._present = _read_counters(text)

    async def _watch(self) -> None:
        scraped = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if self._wanted and self.process.returncode is not None:
                self.exits.append(self.process.returncode)
                await asyncio.sleep(_RESTART_AFTER_S)
                if self._wanted:
                    self.restarts += 1
                    self._begin_generation()
            elif time.monotonic() - scraped > _SCRAPE_EVERY_S:
                await self.scrape()
                scraped = time.monotonic()

    def _begin_generation(self) -> None:
        self._past += self._present
        self._present = Counter()
        self.process.restart()


def _read_counters(text: str) -> Sample:
    found: Sample = Counter()
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if not name.startswith("#") and name.partition("{")[0].endswith("_total"):
            found[name] = int(float(value))
    return found
