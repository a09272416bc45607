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


_LOOKED_AT_S, _KEPT_S = 1.0, 10.0
_LEAST, _ENOUGH = 20, 100  # answers: before anything is concluded, and for a conclusion to stand
_USUAL, _USUAL_EXPLICIT = 0.1, 0.05  # shares of answers that say nothing of how much a relay gets
_CLEARLY = 3.0  # standard deviations above them


class Complaints:
    """Tells a relay that wants fewer mails from one that puts some of them off, as greylisting and passing errors do.

    450, 451 and 421 may mean anything: they count where they are clearly over a tenth of the answers of at least a
    second. What speaks of rates, quotas or load counts at once where it is clearly over a twentieth; a relay that takes
    so many a second and not one more is met at that share with a twentieth above its limit. 4 % of stray 451 and 421
    among 3,000 answers a second would otherwise cut the rate every second, whatever it is by then.
    """

    def __init__(self) -> None:
        self._since = -math.inf
        self._ended = 0
        self._count = self._explicit = 0

    def hear(self, now: float, ended: int, *, explicit: bool) -> bool:
        """A complaint, in the `ended`-th answer of all. Returns whether the relay means how much it gets."""
        begins = self._since == -math.inf
        if begins or (now - self._since > _KEPT_S and ended - self._ended >= _ENOUGH):
            self._forget(now, ended - 1)
        self._count += 1
        self._explicit += explicit
        answers = ended - self._ended
        if answers < _LEAST:
            return False
        patient = now - self._since >= _LOOKED_AT_S and _exceeds(self._count, answers, _USUAL)
        if not patient and not _exceeds(self._explicit, answers, _USUAL_EXPLICIT):
            return False
        self._forget(now, ended)
        return True

    def _forget(self, now: float, ended: int) -> None:
        self._since, self._ended = now, ended
        self._count = self._explicit = 0


def _exceeds(count: int, answers: int, share: float) -> bool:
    usual = answers * share
    return count > usual + _CLEARLY * math.sqrt(usual)


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
