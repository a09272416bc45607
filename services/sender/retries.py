"""When a deferred mail is tried again. Pure."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`delays[n]` follows attempt n + 1; the last one repeats until the mail expires."""

    delays: tuple[timedelta, ...] = (
        timedelta(minutes=1),
        timedelta(minutes=5),
        timedelta(minutes=15),
        timedelta(hours=1),
    )

    def delay_after(self, attempt: int) -> timedelta:
        """The pause after the given attempt (1 is the first)."""
        return self.delays[min(max(attempt, 1), len(self.delays)) - 1]
