"""When a deferred mail is tried again. Pure but for `draw`, which whoever wants to foresee it hands in."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`delays[n]` follows attempt n + 1; the last one repeats until the mail expires.

    Each is longer by up to `jitter` of itself, so that mails a relay has put off together do not come back together.
    `draw` gives a number from 0 to 1.
    """

    delays: tuple[timedelta, ...] = (
        timedelta(minutes=1),
        timedelta(minutes=5),
        timedelta(minutes=15),
        timedelta(hours=1),
    )
    jitter: float = 0.0
    draw: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def delay_after(self, attempt: int) -> timedelta:
        """The pause after the given attempt (1 is the first)."""
        delay = self.delays[min(max(attempt, 1), len(self.delays)) - 1]
        return delay * (1 + self.jitter * self.draw())
