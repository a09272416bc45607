"""Outside systems go away and come back; work waits for them instead of being lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

log = structlog.get_logger(__name__)

Result = TypeVar("Result")
_PAUSES_S = (0.1, 0.2, 0.5, 1.0)


class Unavailable(Exception):
    """An outside system (database, Kafka, relay) does not answer; the same call may succeed later."""


async def retry_while_unavailable(call: Callable[[], Awaitable[Result]], what: str) -> Result:
    """Repeat `call` until it no longer raises Unavailable. It must be safe to repeat."""
    attempt = 0
    while True:
        try:
            result = await call()
        except Unavailable as exc:
            pause = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
            if attempt % 10 == 0:
                log.warning("unavailable, trying again", what=what, error=str(exc))
            attempt += 1
            await asyncio.sleep(pause)
        else:
            if attempt >= 10:
                log.info("available again", what=what)
            return result
