"""How many bulk mails may be without a result at once (R2). Pure.

The window is what the senders get through in half a second, beyond what is on its way in any case: mails that Kafka,
a relay and our own bookkeeping hold for `latency_s` although nobody is before them. Without that part a path that
takes longer than half a second (a relay that scans, a busy machine) would make the window ever smaller, down to its
least, and the window the rate: fewer mails on their way than the relay has connections for.

The latency is the shortest that was seen. It can only be seen while nothing waits, so now and then the window is made
smaller than the path for some seconds, and the shortest way of those seconds is believed, be it longer than before.
"""

import math
from dataclasses import dataclass, replace

LEAST, MOST = 50, 5000  # mails
SPAN_S = 0.5
_MEASURED_EVERY_S, _FORGOTTEN_S = 0.25, 5.0  # between measurements; a longer gap says nothing
_RISE_S, _FALL_S = 0.4, 1.0  # how fast a higher rate, a lower one are believed
_LATENCY_MOST_S = 10.0
_RISING = 1.1  # a rate that is still found out: nothing waits then in any case
_LOOK_EVERY_S, _LOOK_S, _LOOK_PART, _LOOK_LEAST = 120.0, 3.0, 0.75, 10


@dataclass(frozen=True, slots=True)
class Window:
    """The window as it stands. `results` are those of the `elapsed_s` since the last measurement, `fastest_s` the
    shortest way since the last that used it (none: infinite); `now_s` is any clock that all processes share."""

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
        return replace(window, size=max(LEAST, window.size), results=0, fastest_s=math.inf, elapsed_s=0.0)
    looking, looked = _is_look(window.now_s), _is_look(window.now_s - window.elapsed_s)
    latency_s = _learn_latency(window, is_certain=looked and not looking)
    rate = _learn_rate(window)
    if looking and looked:
        rate = max(rate, window.rate)  # less gets through because less is let out
    if looking and rate < _RISING * window.rate:
        size = max(_LOOK_LEAST, min(MOST, round(rate * latency_s * _LOOK_PART)))
    else:
        size = max(LEAST, min(MOST, round(rate * (SPAN_S + latency_s))))
    fastest_s = window.fastest_s if looking and looked else math.inf
    return replace(window, size=size, rate=rate, latency_s=latency_s, results=0, fastest_s=fastest_s, elapsed_s=0.0)


def _is_look(now_s: float) -> bool:
    return now_s % _LOOK_EVERY_S < _LOOK_S


def _learn_rate(window: Window) -> float:
    """More is believed sooner than less: a window too small hides what could be had."""
    observed = window.results / window.elapsed_s
    span_s = _RISE_S if observed > window.rate else _FALL_S
    return observed + (window.rate - observed) * math.exp(-window.elapsed_s / span_s)


def _learn_latency(window: Window, *, is_certain: bool) -> float:
    """Less is believed at once, more only at the end of a look."""
    fastest, known = window.fastest_s, window.latency_s
    if math.isinf(fastest) or (known and fastest > known and not is_certain):
        return known
    return min(_LATENCY_MOST_S, fastest)
