"""How many mails a relay may get: even pacing under a limit, and fewer for a while where it asks for that. Pure."""

import math

UNLIMITED = 1 << 60
TICK_S = 0.05
"""Between two grants."""
_BURST_S = 0.1  # of unused allowance that is kept; the rest has passed


class Pacer:
    """Grants mails for the next moment, so that they leave evenly and not at the beginning of each second."""

    def __init__(self) -> None:
        self._fraction = 0.0
        self._last: float | None = None

    def grant(self, rate: float, unused: int, now: float) -> int:
        """Mails that may begin until the next grant, at `rate` per second. `unused`: what is left of the last one."""
        passed = TICK_S if self._last is None else max(0.0, now - self._last)
        self._last = now
        most = max(1.0, rate * _BURST_S) + rate * TICK_S
        credit = min(unused + self._fraction + rate * passed, most)
        granted = math.floor(credit)
        self._fraction = credit - granted
        return granted

    def reset(self) -> None:
        """What was granted before is void."""
        self._fraction, self._last = 0.0, None


_CUT = 0.5
_BETWEEN_CUTS_S = 1.0  # what asks for fewer within it was on its way before the last cut
_GROWTH = 0.05  # of the rate at which the relay complained, added each second without a complaint, but at least
_GROWTH_PER_S = 1.0
_LIFTED_AT = 2.0  # times that rate
_SLOWEST = 1.0


class Brake:
    """Additive increase, multiplicative decrease of a rate. `rate` None: the relay has not asked for fewer of late."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self._complained_at = 0.0
        self._last_cut = -math.inf
        self._last_growth = 0.0

    def press(self, now: float, current: float) -> bool:
        """The relay asks for fewer while it gets `current` mails per second. Returns whether that cuts the rate."""
        if now - self._last_cut < _BETWEEN_CUTS_S:
            return False
        rate = max(_SLOWEST, current if self.rate is None else min(current, self.rate))
        self._complained_at = rate
        self.rate = max(_SLOWEST, rate * _CUT)
        self._last_cut = self._last_growth = now
        return True

    def ease(self, now: float) -> bool:
        """Time passes. Returns whether that lifts the brake."""
        if self.rate is None or now - self._last_cut < _BETWEEN_CUTS_S:
            return False
        self.rate += max(_GROWTH_PER_S, self._complained_at * _GROWTH) * (now - self._last_growth)
        self._last_growth = now
        if self.rate < self._complained_at * _LIFTED_AT:
            return False
        self.rate = None
        return True


def slower_of(*rates: float | None) -> float | None:
    """The lowest limit; None where there is none."""
    return min((each for each in rates if each is not None), default=None)
