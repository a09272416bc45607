"""Letting others have their turn in the middle of work that may take long."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

Item = TypeVar("Item")

_TURN_S = 0.05


async def take_turns(items: Iterable[Item], turn_s: float = _TURN_S) -> AsyncIterator[Item]:
    """The items in their order, with a pause after each `turn_s` in which heartbeats, leases and relays are served.

    Reading most records takes microseconds, but a thousand with a thousand unusual addresses each take minutes.
    """
    since = time.monotonic()
    for item in items:
        if time.monotonic() - since > turn_s:
            await asyncio.sleep(0)
            since = time.monotonic()
        yield item
