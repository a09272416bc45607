"""The one vocabulary of states, and the rules by which recipient states meet and add up to a mail's status.

Pure. "sent" means the relay answered 250; nobody here claims "delivered".
"""

from collections.abc import Collection
from enum import StrEnum


class RecipientState(StrEnum):
    """What is known of one recipient of one mail."""

    PENDING = "pending"
    DEFERRED = "deferred"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"


class MailStatus(StrEnum):
    """A mail's status, derived from its recipients (and from who holds it)."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    DEFERRED = "deferred"
    SENT = "sent"
    PARTIALLY_SENT = "partially_sent"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class FailureReason(StrEnum):
    """Why `email.failed` was published."""

    INVALID_REQUEST = "invalid_request"
    REJECTED = "rejected"
    DEFERRED = "deferred"
    RELAY_UNAVAILABLE = "relay_unavailable"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"
    TEMPLATE_ERROR = "template_error"
    INTERNAL_ERROR = "internal_error"
    UNKNOWN = "unknown"


FINAL_STATES = frozenset({RecipientState.SENT, RecipientState.FAILED})
_PENDING = frozenset({RecipientState.PENDING})

# Where two events meet: sent beats a final failure beats what is still open; then the higher attempt counts, and of
# one attempt "unknown" says more than "deferred". Every two outcomes have an order, so it never matters who came first.
_PRECEDENCE = {
    RecipientState.PENDING: 0,
    RecipientState.DEFERRED: 1,
    RecipientState.UNKNOWN: 1,
    RecipientState.FAILED: 2,
    RecipientState.SENT: 3,
}


def takes_precedence(new: RecipientState, new_attempt: int, old: RecipientState, old_attempt: int) -> bool:
    """Whether a newly read outcome replaces the one already known, whatever order the events came in."""
    new_rank, old_rank = _PRECEDENCE[new], _PRECEDENCE[old]
    new_unknown, old_unknown = new is RecipientState.UNKNOWN, old is RecipientState.UNKNOWN
    return (new_rank, new_attempt, new_unknown) > (old_rank, old_attempt, old_unknown)


def derive_status(
    states: Collection[RecipientState], *, reasons: Collection[FailureReason] = (), scheduled: bool = False
) -> MailStatus:
    """Add recipient states up to a mail's status.

    `reasons`: the reasons of the final failures among them. `scheduled`: the scheduler holds the mail.
    """
    states = frozenset(states)
    if states <= _PENDING:
        return MailStatus.SCHEDULED if scheduled else MailStatus.QUEUED
    if RecipientState.UNKNOWN in states:
        return MailStatus.UNKNOWN
    if not states <= FINAL_STATES:
        return MailStatus.DEFERRED
    if len(states) == 1 and RecipientState.SENT in states:
        return MailStatus.SENT
    if RecipientState.SENT in states:
        return MailStatus.PARTIALLY_SENT
    return _status_of_failure(frozenset(reasons))


def _status_of_failure(reasons: frozenset[FailureReason]) -> MailStatus:
    if reasons == {FailureReason.CANCELLED}:
        return MailStatus.CANCELLED
    if reasons == {FailureReason.EXPIRED}:
        return MailStatus.EXPIRED
    return MailStatus.FAILED
