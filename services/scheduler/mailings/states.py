"""How a recipient of a mailing stands, as it is shown: a function of what is kept of his mail. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from services.scheduler.pacing.states import BulkState
from shared.states import FailureReason

UNSUBSCRIBED = "unsubscribed"
"""The reason of one who was skipped."""


class MessageState(StrEnum):
    """`fail`: an attempt failed, more may follow unless it is final. `skipped`: there never was to be a mail."""

    PENDING = "pending"
    SUCCESS = "success"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Standing:
    """`in_flight`: the senders have it. `final`: nothing more comes of it by itself."""

    state: MessageState
    in_flight: bool = False
    final: bool = False
    reason: str | None = None


KEPT_AS: dict[MessageState, tuple[BulkState, ...]] = {
    MessageState.PENDING: (BulkState.PENDING, BulkState.QUEUED),
    MessageState.SUCCESS: (BulkState.SENT, BulkState.PARTIALLY_SENT),
    MessageState.FAIL: (
        BulkState.DEFERRED,
        BulkState.UNKNOWN,
        BulkState.FAILED,
        BulkState.EXPIRED,
        BulkState.CANCELLED,
    ),
    MessageState.SKIPPED: (BulkState.SKIPPED,),
}
"""Where to look for a state."""

_BY_STATE = {kept: state for state, all_kept in KEPT_AS.items() for kept in all_kept}
_IN_FLIGHT = (BulkState.QUEUED, BulkState.DEFERRED, BulkState.UNKNOWN)
_REASONS: dict[BulkState, str] = {
    BulkState.DEFERRED: FailureReason.DEFERRED,
    BulkState.UNKNOWN: FailureReason.UNKNOWN,
    BulkState.EXPIRED: FailureReason.EXPIRED,
    BulkState.CANCELLED: FailureReason.CANCELLED,
    BulkState.SKIPPED: UNSUBSCRIBED,
}


def show_state(kept: BulkState, reason: str | None) -> Standing:
    """What is shown of a mail that is kept in this state; `reason` as it is kept with it."""
    state = _BY_STATE[kept]
    failed = state in (MessageState.FAIL, MessageState.SKIPPED)
    return Standing(
        state,
        in_flight=kept in _IN_FLIGHT,
        final=kept is not BulkState.PENDING and kept not in _IN_FLIGHT,
        reason=(reason or _REASONS.get(kept)) if failed else None,
    )


LEFT, WAITING = "", "."
"""Fates: what is queued or sent, which no index tells apart; what is pending. Those that are greater say both."""


def read_fate(fate: str) -> tuple[BulkState, str | None]:
    """State and kept reason, of a fate that says them."""
    state, _, reason = fate.partition(" ")
    return BulkState(state), reason or None
