"""When keys were last used: noted in the process, written now and then in one statement for all."""

import asyncio
import time
from typing import Protocol

import structlog

from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

_WRITE_EVERY_S = 30.0
_LAST_WRITE_S = 2.0  # at a stop PostgreSQL may be away; what is lost then is a time in a list
_LIMIT = 10_000  # keys, while nothing can be written


class UseKeeper(Protocol):
    """Where the times are kept."""

    async def note_uses(self, used: dict[str, float]) -> None:
        """Write the times (Unix seconds) by key id. Raises Unavailable."""


class LastUses:
    """Costs a request no more than a dictionary's entry, and never a wait."""

    def __init__(self, keeper: UseKeeper, *, write_every_s: float = _WRITE_EVERY_S) -> None:
        self._keeper = keeper
        self._write_every_s = write_every_s
        self._used: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def note(self, key_id: str) -> None:
        """The key has been used just now."""
        self._used[key_id] = time.time()

    async def start(self) -> None:
        """Begin writing."""
        self._task = asyncio.create_task(self._run(), name="last-uses")

    async def stop(self) -> None:
        """Write what is left, if that can be done at once."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            async with asyncio.timeout(_LAST_WRITE_S):
                await self.write()
        except (Unavailable, TimeoutError):
            log.info("last uses of keys not written", keys=len(self._used))

    async def write(self) -> None:
        """Write what has been noted. Raises Unavailable: it is kept, and written later."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._keeper.note_uses(used)
        except BaseException:
            if len(self._used) < _LIMIT:
                self._used = used | self._used
            raise

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._write_every_s)
            try:
                await self.write()
            except Unavailable:
                pass  # later
            except Exception:
                log.exception("last uses of keys cannot be written")
