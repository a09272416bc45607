"""When a request is made again, and after how long. Pure: clock and chance are handed in."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import random

from milena.calls import Answer, Lost
from milena.errors import read_error

_PASSING = frozenset({429, 502, 503, 504})
NOTHING_MORE: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Patience:
    """For how long (`seconds`) a request is made again, and with which pauses: doubled each time, up to `longest_s`."""

    seconds: float = 30.0
    first_s: float = 0.2
    longest_s: float = 5.0
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random

    def find_pause(self, outcome: Answer | Lost, repeats: int, also: frozenset[int] = NOTHING_MORE) -> float | None:
        """Seconds until the request is made again, None where that makes no sense. A server's own word counts.

        `also`: statuses that pass beside the usual ones.
        """
        if isinstance(outcome, Answer):
            if outcome.status not in also and not _may_pass(outcome):
                return None
            told = read_retry_after(outcome.headers)
            if told is not None:
                return told + self.first_s * self.chance()
        return min(self.longest_s, self.first_s * 2.0 ** min(repeats, 20)) * (0.5 + self.chance() / 2)


def _may_pass(answer: Answer) -> bool:
    if answer.status == 409:
        return read_error(answer.status, answer.body).slug.endswith("in-flight")
    return answer.status in _PASSING


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, whether they are told as such or as a date (RFC 9110 §10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value[:9])
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())
