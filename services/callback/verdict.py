"""What an attempt means for its delivery: delivered, again later, or given up. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.callback.deliveries import DeliveryState

_GONE = 410


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and what came of it: `status` of the answer, or `error` where there was none.

    `hopeless`: trying again cannot help, whatever the status. `response` is the beginning of the answer's body.
    """

    started_at: datetime
    duration_ms: int
    status: int | None = None
    error: str | None = None
    response: str = ""
    hopeless: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The delivery's next state; `retry_in` where it stays pending."""

    state: DeliveryState
    retry_in: timedelta | None = None


def judge(attempt: Attempt, earlier_attempts: int, delays: Sequence[timedelta]) -> Verdict:
    """2xx is delivered, 410 Gone and what is hopeless failed; anything else is tried again while delays last."""
    if attempt.status is not None and 200 <= attempt.status < 300:
        return Verdict(DeliveryState.DELIVERED)
    if attempt.hopeless or attempt.status == _GONE or earlier_attempts >= len(delays):
        return Verdict(DeliveryState.FAILED)
    return Verdict(DeliveryState.PENDING, delays[earlier_attempts])
