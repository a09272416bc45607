"""How fast mails of a lane come to their end, and how far they are. Pure."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

_SMOOTHING_S = 5.0
_LONGEST = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Pace:
    """`rate` mails a second, as of `at`, when `ended` had their end."""

    rate: float | None
    at: datetime | None
    ended: int

    def go_on(self, ended: int, elapsed_s: float) -> float:
        """The rate once so many have theirs; mails that are tried again have it no more."""
        return smooth_rate(self.rate, max(0, ended - self.ended), elapsed_s)

    def estimate_end(self, left: int) -> datetime | None:
        """When `left` more have theirs if it goes on as it does; None where it does not go on."""
        if not self.rate or self.at is None:
            return None
        left_s = left / self.rate
        return self.at + timedelta(seconds=left_s) if left_s < _LONGEST.total_seconds() else None


def smooth_rate(before: float | None, ended: int, elapsed_s: float) -> float:
    """Mails a second after `ended` more in `elapsed_s`; the last few seconds count most."""
    if elapsed_s <= 0:
        return before or 0.0
    now = ended / elapsed_s
    if before is None:
        return now
    share = 1 - math.exp(-elapsed_s / _SMOOTHING_S)
    smoothed = before + share * (now - before)
    return smoothed if smoothed > 0.01 else 0.0


def find_percent(ended: int, of: int) -> float:
    """To one decimal, and never more than there is."""
    return math.floor(1000 * ended / of) / 10 if of else 0.0
