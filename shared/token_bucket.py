"""A token bucket: so much at once, so much a second. Pure; the clock is an argument."""

import math

_DUST = 1e-3  # of a token: after exactly the time that `take` gave, a clock's rounding may leave this much missing


class TokenBucket:
    """Holds up to `size` tokens, and gets `rate` more a second. It begins full.

    Whoever takes more at once than it can hold gets it from a full bucket, and what is missing must flow in before
    anybody gets the next.
    """

    __slots__ = ("_at", "_tokens", "rate", "size")

    def __init__(self, rate: float, size: float, now: float) -> None:
        self.rate = rate
        self.size = size
        self._tokens = size
        self._at = now

    def take(self, count: int, now: float) -> float:
        """Take tokens: 0.0. Or take none: the seconds until they can be had. `now` in seconds, of any one clock."""
        tokens = self._fill(now)
        missing = min(count, self.size) - tokens
        if missing > _DUST:
            return missing / self.rate
        self._tokens = tokens - count
        return 0.0

    def look(self, now: float) -> tuple[int, int]:
        """Whole tokens there are, and the seconds, rounded up, until there is one more; 0 for a full bucket."""
        tokens = self._fill(now)
        if tokens >= self.size:
            return int(self.size), 0
        whole = int(tokens + _DUST) if tokens > 0 else 0
        return whole, math.ceil((min(whole + 1, self.size) - tokens) / self.rate)

    def _fill(self, now: float) -> float:
        if now > self._at:
            self._tokens = min(self.size, self._tokens + (now - self._at) * self.rate)
            self._at = now
        return self._tokens
