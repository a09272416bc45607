"""The bound on mail that waits in the database: at it no new mail is taken from Kafka (P9)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from shared.metrics import WAITING_BYTES, WAITING_MAILS
from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 1.0
_SHARE = 1 / 40  # of the time may go into counting, as long as that is often enough
_AT_LEAST_EVERY_S = 3.0
_PAUSED_AT_LEAST_EVERY_S = 60.0
_OPEN_AGAIN_AT = 0.95  # of the bound
_KINDS = ("deferred", "parked", "held")


class Count(Protocol):
    """Rows of one kind, and their octets."""

    @property
    def kind(self) -> str:
        """`deferred`, `parked`, `held` or `paused`."""

    @property
    def rows(self) -> int:
        """How many."""

    @property
    def octets(self) -> int:
        """Of their events."""


class WaitingSource(Protocol):
    """Counts. Every call may raise Unavailable."""

    async def count(self, limit: int) -> Sequence[Count]:
        """What counts against the bound, up to `limit` rows and one more."""

    async def count_paused(self) -> Count:
        """What does not."""


class Bound:
    """Counts in the background, and tells whether there is room for more mail.

    `on_room` is called when there is again. Between two counts, a second or so, the bound may be exceeded by what is
    deferred meanwhile.
    """

    on_room: Callable[[], None]

    def __init__(self, source: WaitingSource, *, rows: int, octets: int) -> None:
        self.reached = False
        self._source = source
        self._rows = rows
        self._octets = octets
        self._waiting = (0, 0)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin counting."""
        self._tasks = [
            asyncio.create_task(_repeat(self.look, _AT_LEAST_EVERY_S), name="waiting-bound"),
            asyncio.create_task(_repeat(self._look_at_paused, _PAUSED_AT_LEAST_EVERY_S), name="waiting-paused"),
        ]

    async def stop(self) -> None:
        """Stop counting."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def check(self) -> str | None:
        """For /readyz."""
        if not self.reached:
            return None
        rows, octets = self._waiting
        return (
            f"at the bound of waiting mail, no new mail is taken: at least {rows} mails ({octets} bytes) wait for "
            f"another attempt, MILENA_WAITING_LIMIT is {self._rows}, MILENA_WAITING_BYTES {self._octets}"
        )

    async def look(self) -> None:
        """Count once. Raises Unavailable."""
        found = {each.kind: each for each in await self._source.count(self._rows)}
        for kind in {*_KINDS, *found}:
            WAITING_MAILS.labels(kind=kind).set(found[kind].rows if kind in found else 0)
            WAITING_BYTES.labels(kind=kind).set(found[kind].octets if kind in found else 0)
        rows = sum(each.rows for each in found.values())
        octets = sum(each.octets for each in found.values())
        self._waiting = rows, octets
        share = _OPEN_AGAIN_AT if self.reached else 1.0
        reached = rows >= self._rows * share or octets >= self._octets * share
        if reached == self.reached:
            return
        self.reached = reached
        if reached:
            log.error("bound of waiting mail reached, no new mail is taken", mails=rows, octets=octets)
        else:
            log.info("room for new mail again", mails=rows, octets=octets)
            self.on_room()

    async def _look_at_paused(self) -> None:
        paused = await self._source.count_paused()
        WAITING_MAILS.labels(kind=paused.kind).set(paused.rows)
        WAITING_BYTES.labels(kind=paused.kind).set(paused.octets)


async def _repeat(look: Callable[[], Awaitable[None]], at_least_every_s: float) -> None:
    while True:
        began = time.monotonic()
        try:
            await look()
        except Unavailable:
            pass  # nothing can be claimed meanwhile
        except Exception:
            log.exception("waiting mail cannot be counted")
        pause_s = (time.monotonic() - began) / _SHARE
        await asyncio.sleep(min(max(_LOOK_EVERY_S, pause_s), at_least_every_s))
