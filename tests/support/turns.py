"""Whether others have their turn on the event loop while something is at work."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def count_turns() -> AsyncIterator[Callable[[], int]]:
    """A function that gives how many turns somebody else has had since."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    others = asyncio.create_task(take_turns())
    try:
        yield lambda: turns
    finally:
        others.cancel()
