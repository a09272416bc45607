"""How many bulk mails may be without a result at once (R2). Pure.

The window is what the senders get through in half a second, beyond what is on its way in any case: mails that Kafka,
a relay and our own bookkeeping hold for `latency_s` although nobody is before them. Without that part a path that
takes longer than half a second (a relay that scans, a busy machine) would make the window ever smaller, down to its
least, and the window the rate: fewer mails on their way than the relay has connections for.

The latency is the shortest that was seen. It can only be seen while hardly anything waits: while the window is small,
and for a moment every minute, when it is made smaller than the path.
"""

import math
from dataclasses import dataclass, replace

LEAST, MOST = 50, 5000  # mails
SPAN_S = 0.5
_MEASURED_EVERY_S, _FORGOTTEN_S = 0.25, 5.0  # between measurements; a longer gap says nothing
_RISE_S, _FALL_S, _LATENCY_S = 0.4, 1.0, 5.0  # how fast a higher rate, a lower one, a longer latency are believed
_LATENCY_MOST_S = 10.0
_SMALL = 2 * LEAST
_LOOK_EVERY_S, _LOOK_S, _LOOK_PART = 60.0, 1.5, 0.75


@dataclass(frozen=True, slots=True)
class Window:
    """The window as it stands. `results` and `fastest_s` (none: infinite) are those of the `elapsed_s` since the last
    measurement; `now_s` is any clock that all processes share."""

    size: int = LEAST
    in_flight: int = 0
    rate: float = 0.0
    latency_s: float = 0.0
    results: int = 0
    fastest_s: float = math.inf
    elapsed_s: float = 0.0
    now_s: float = 0.0

    @property
    def free(self) -> int:
        """How many mails may leave."""
        return max(0, self.size - self.in_flight)


def measure(window: Window) -> Window | None:
    """The window for the time to come; None: it is too early to say."""
    if window.elapsed_s < _MEASURED_EVERY_S:
        return None
    if window.elapsed_s > _FORGOTTEN_S or (not window.results and not window.in_flight):
        return replace(window, results=0, fastest_s=math.inf, elapsed_s=0.0)
    looking = window.now_s % _LOOK_EVERY_S < _LOOK_S
    latency_s = _learn_latency(window, is_seen=looking or window.size <= _SMALL)
    rate = _learn_rate(window)
    wanted = rate * latency_s * _LOOK_PART if looking else rate * (SPAN_S + latency_s)
    size = max(LEAST, min(MOST, round(wanted)))
    return replace(window, size=size, rate=rate, latency_s=latency_s, results=0, fastest_s=math.inf, elapsed_s=0.0)


def _learn_rate(window: Window) -> float:
    """More is believed sooner than less: a window too small hides what could be had."""
    observed = window.results / window.elapsed_s
    span_s = _RISE_S if observed > window.rate else _FALL_S
    return observed + (window.rate - observed) * math.exp(-window.elapsed_s / span_s)


def _learn_latency(window: Window, *, is_seen: bool) -> float:
    """Less is believed at once, more only while hardly anything waits."""
    fastest, known = window.fastest_s, window.latency_s
    if math.isinf(fastest):
        return known
    if not known or fastest < known:
        return fastest
    if not is_seen:
        return known
    return min(_LATENCY_MOST_S, known + (fastest - known) * (1 - math.exp(-window.elapsed_s / _LATENCY_S)))
