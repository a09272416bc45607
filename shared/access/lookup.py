"""Finding a caller's key without asking PostgreSQL for each request.

A key is asked for again after 3 s, so a revocation acts within 5. While PostgreSQL is away, a key it has confirmed
goes on for at most 15 minutes; one it has not cannot be judged.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from shared.access.keys import ApiKey, digest_key, has_key_form
from shared.retrying import Unavailable

_PAUSE_S = 1.0  # between look-ups while they fail


class AccessUnavailable(Unavailable):
    """The key is not known here, and PostgreSQL does not answer."""


class KeySource(Protocol):
    """Where keys come from."""

    async def find_key(self, digest: bytes) -> ApiKey | None:
        """The key with this digest, unless revoked. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class _Known:
    key: ApiKey
    confirmed_at: float  # when the look-up that found it began


class KeyLookup:
    """Cached look-ups, bounded: beyond `size` the key unused for longest is forgotten."""

    def __init__(
        self,
        source: KeySource,
        *,
        fresh: timedelta = timedelta(seconds=3),
        outage: timedelta = timedelta(minutes=15),
        answer_within: timedelta = timedelta(seconds=1.5),
        size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._fresh_s = fresh.total_seconds()
        self._outage_s = outage.total_seconds()
        self._answer_within_s = answer_within.total_seconds()
        self._size = size
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[ApiKey | None]] = {}
        self._failing = False
        self._ask_again_at = 0.0

    async def find(self, secret: str) -> ApiKey | None:
        """The key of this secret, None where there is none (any more). Raises AccessUnavailable."""
        return await self.find_by_digest(digest_key(secret)) if has_key_form(secret) else None

    async def find_by_digest(self, digest: bytes) -> ApiKey | None:
        """The same for whoever has kept of the secret only what is stored of it, too. Raises AccessUnavailable."""
        known = self._known.get(digest)
        if known and self._clock() - known.confirmed_at < self._fresh_s:
            self._known.move_to_end(digest)
            return known.key
        if known and self._failing:
            # PostgreSQL is away: known keys do not wait for it, they ask behind the caller's back.
            if self._clock() >= self._ask_again_at:
                self._ask(digest)
            return self._go_on_with(known)
        try:
            async with asyncio.timeout(self._answer_within_s):
                return await asyncio.shield(self._ask(digest))
        except (Unavailable, TimeoutError) as exc:
            self._failing = True
            if known:
                return self._go_on_with(known)
            raise AccessUnavailable("the API key cannot be checked") from exc

    def _go_on_with(self, known: _Known) -> ApiKey:
        if self._clock() - known.confirmed_at < self._outage_s:
            return known.key
        raise AccessUnavailable("the API key was confirmed too long ago")

    def _ask(self, digest: bytes) -> asyncio.Task[ApiKey | None]:
        """One look-up at a time for one key, however many requests wait for it."""
        task = self._asking.get(digest)
        if task is None:
            self._ask_again_at = self._clock() + _PAUSE_S
            task = self._asking[digest] = asyncio.create_task(self._look_up(digest))
            task.add_done_callback(lambda done: self._end(digest, done))
        return task

    async def _look_up(self, digest: bytes) -> ApiKey | None:
        began = self._clock()
        key = await self._source.find_key(digest)
        self._failing = False
        if key is None:
            self._known.pop(digest, None)
            return None
        self._known[digest] = _Known(key, began)
        self._known.move_to_end(digest)
        if len(self._known) > self._size:
            self._known.popitem(last=False)
        return key

    def _end(self, digest: bytes, task: asyncio.Task[ApiKey | None]) -> None:
        self._asking.pop(digest, None)
        if not task.cancelled():
            task.exception()  # whoever waited has it; without this a look-up nobody waits for any more would complain
