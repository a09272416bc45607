"""Outside systems go away and come back; work waits for them instead of being lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

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


async def answer_within(work: Awaitable[Result], timeout_s: float) -> Result:
    """The result, or Unavailable once it takes longer. What stalls is left to itself: ending it would stall, too."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([task], timeout=timeout_s)
    if not done:
        task.add_done_callback(_forget)
        raise Unavailable(f"no answer within {timeout_s:g} s")
    return task.result()


def _forget(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()  # nobody waits for it any more; without this it would complain
