"""When the API counts as ready."""

import time
from collections.abc import Callable
from datetime import timedelta

from shared.health import Check


class ToleratedAbsence:
    """A check that must succeed once, and may then fail for a while.

    With PostgreSQL away, known keys go on sending for that long; taken out of the load balancer, nobody would.
    """

    def __init__(self, check: Check, tolerated: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._check = check
        self._tolerated_s = tolerated.total_seconds()
        self._clock = clock
        self._well_at: float | None = None

    async def __call__(self) -> str | None:
        """For /readyz: None while well, or not well for a short time only."""
        wrong = await self._check()
        if wrong is None:
            self._well_at = self._clock()
        elif self._well_at is not None and self._clock() - self._well_at < self._tolerated_s:
            return None
        return wrong
