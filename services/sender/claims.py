"""What to do with a mail that is in the ledger already: the rules of P3, P5 and P6. Pure."""

from dataclasses import dataclass
from enum import Enum, auto
from uuid import UUID

from services.sender.ledger import LedgerState


class Decision(Enum):
    """What follows for whoever came upon the row."""

    GO_ON = auto()
    """Ours already (the claim was repeated after a lost answer), and still: renew it and go on."""
    TAKE = auto()
    """Claim it now: the same attempt where nothing was tried under it yet, otherwise the next."""
    TAKE_OVER = auto()
    """A claim lapsed without a settle; nobody can know whether content was written: unknown, then claim."""
    ANNOUNCE = auto()
    """Settled, deferred or held: publish its events again, no SMTP."""
    PARK = auto()
    """Somebody else holds it: look again when his lease has ended."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A ledger row's claim as just read; what has passed was judged by PostgreSQL's clock.

    `lapsed`: the claim's lease. `retry_due`: the time of the next attempt, or of a held mail's expiry.
    """

    state: LedgerState
    token: UUID | None
    lapsed: bool
    retry_due: bool


def decide(
    standing: Standing,
    own_token: UUID,
    *,
    from_due: bool,
    cancelled: bool,
    may_take_over: bool,
    decided: bool = False,
) -> Decision:
    """`from_due`: the caller holds the mail's due row, so it is his to try again, or to end.

    `decided`: an operator has decided on it, where it is held.
    `may_take_over` is false for one lease after the database connection was lost: our own clock stood still too.
    """
    state = standing.state
    if state is LedgerState.CLAIMED:
        if standing.token == own_token:
            return Decision.TAKE if standing.lapsed else Decision.GO_ON
        return Decision.TAKE_OVER if standing.lapsed and may_take_over else Decision.PARK
    if state is LedgerState.RELEASED:
        return Decision.TAKE
    if state is LedgerState.DEFERRED and from_due and (standing.retry_due or cancelled):
        return Decision.TAKE
    if state is LedgerState.HELD and from_due and (standing.retry_due or decided):
        return Decision.TAKE  # expired, or decided on; a cancellation cannot undo what may have been sent
    return Decision.ANNOUNCE
