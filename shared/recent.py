"""What has been looked up in PostgreSQL a moment ago, for those who cannot ask it for each request.

A value is asked for again after `fresh`, one look-up at a time for one key however many wait for it. While PostgreSQL
is away, what it has confirmed goes on for `outage`; what it has not cannot be told.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from shared.retrying import Unavailable

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_PAUSE_S = 1.0  # between look-ups while they fail


@dataclass(frozen=True, slots=True)
class _Known(Generic[Value]):
    value: Value
    confirmed_at: float  # when the look-up that found it began


class Recent(Generic[Key, Value]):
    """Values by key, as `ask` gave them; it gives None where there is none, and raises Unavailable.

    Bounded: beyond `capacity`, in the units of `weigh`, the value unused for longest is forgotten.
    """

    def __init__(
        self,
        ask: Callable[[Key], Awaitable[Value | None]],
        *,
        capacity: int,
        weigh: Callable[[Value], int] = lambda _: 1,
        fresh: timedelta = timedelta(seconds=3),
        outage: timedelta = timedelta(minutes=15),
        answer_within: timedelta = timedelta(seconds=1.5),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask_source = ask
        self._capacity = capacity
        self._weigh = weigh
        self._fresh_s = fresh.total_seconds()
        self._outage_s = outage.total_seconds()
        self._answer_within_s = answer_within.total_seconds()
        self._clock = clock
        self._known: OrderedDict[Key, _Known[Value]] = OrderedDict()
        self._weight = 0
        self._asking: dict[Key, asyncio.Task[Value | None]] = {}
        self._failing = False
        self._ask_again_at = 0.0

    async def find(self, key: Key) -> Value | None:
        """The value of this key, None where there is none (any more). Raises Unavailable."""
        known = self._known.get(key)
        if known and self._clock() - known.confirmed_at < self._fresh_s:
            self._known.move_to_end(key)
            return known.value
        if known and self._failing:
            # PostgreSQL is away: what is known does not wait for it, it is asked for behind the caller's back.
            if self._clock() >= self._ask_again_at:
                self._ask(key)
            return self._go_on_with(known)
        try:
            async with asyncio.timeout(self._answer_within_s):
                return await asyncio.shield(self._ask(key))
        except (Unavailable, TimeoutError) as exc:
            self._failing = True
            if known:
                return self._go_on_with(known)
            raise Unavailable("not known here, and PostgreSQL does not answer") from exc

    def _go_on_with(self, known: _Known[Value]) -> Value:
        if self._clock() - known.confirmed_at < self._outage_s:
            return known.value
        raise Unavailable("confirmed too long ago, and PostgreSQL does not answer")

    def _ask(self, key: Key) -> asyncio.Task[Value | None]:
        task = self._asking.get(key)
        if task is None:
            self._ask_again_at = self._clock() + _PAUSE_S
            task = self._asking[key] = asyncio.create_task(self._look_up(key))
            task.add_done_callback(lambda done: self._end(key, done))
        return task

    async def _look_up(self, key: Key) -> Value | None:
        began = self._clock()
        value = await self._ask_source(key)
        self._failing = False
        self._forget(key)
        if value is None:
            return None
        self._known[key] = _Known(value, began)
        self._weight += self._weigh(value)
        while self._weight > self._capacity:
            self._forget(next(iter(self._known)))
        return value

    def _forget(self, key: Key) -> None:
        known = self._known.pop(key, None)
        if known:
            self._weight -= self._weigh(known.value)

    def _end(self, key: Key, task: asyncio.Task[Value | None]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waited has it; without this a look-up nobody waits for any more would complain
