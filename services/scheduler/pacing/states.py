"""States of a bulk mail in the scheduler, each with a counter of its lane."""

from enum import StrEnum


class BulkState(StrEnum):
    """`pending → queued → (deferred, unknown →) an end`, or `pending → cancelled`.

    Only `queued` is in the window. `deferred` and `unknown` have had a result and wait for another; the rest are ends.
    `skipped` never was to leave: a mailing's recipient who has unsubscribed, or was erased.
    """

    PENDING = "pending"
    QUEUED = "queued"
    DEFERRED = "deferred"
    UNKNOWN = "unknown"
    SENT = "sent"
    PARTIALLY_SENT = "partially_sent"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


OPEN_STATES = (BulkState.PENDING, BulkState.QUEUED, BulkState.DEFERRED, BulkState.UNKNOWN)
ENDS = tuple(state for state in BulkState if state not in OPEN_STATES)
