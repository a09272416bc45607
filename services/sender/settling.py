"""What an operator decides on a mail of unknown outcome (P6), and what follows from it. Pure.

The API only writes the decision on the mail's due row; the sender that leases the row acts on it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from services.sender.classify import Failed, Outcome, Reply, Sent
from services.sender.ledger import LedgerEntry
from shared.due import DueRow
from shared.states import FailureReason, RecipientState

NOTE_LIMIT = 200  # characters


class Intent(StrEnum):
    """What is to become of it."""

    RESEND = "resend"
    """Sent again, under the same Message-ID: the next attempt."""
    SENT = "sent"
    """The relay has it: final."""
    FAILED = "failed"
    """The relay does not have it, and it is not sent again: final."""


@dataclass(frozen=True, slots=True)
class Decided:
    """Where a mail stands: the ledger's state and attempt, and the last decision with the attempt it was about."""

    state: str
    attempt: int
    intent: Intent | None
    decided_on: int | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a decision cannot be taken; `slug` is `not-found`, `not-waiting` or `decided-otherwise`."""

    slug: str
    detail: str


def find_refusal(known: Decided | None, intent: Intent) -> Refusal | None:
    """A mail could not be decided on: None where the same was decided before, which is well, otherwise why not."""
    if known is None:
        return Refusal("not-found", "There is no such mail in the ledger.")
    if known.intent is intent and (known.state != "held" or known.decided_on == known.attempt):
        return None
    if known.state == "held":
        return Refusal("decided-otherwise", f"A sender is about to act on another decision: {known.intent}.")
    return Refusal("not-waiting", f"The mail does not wait for an operator; in the ledger it is {known.state}.")


class _Word(Reply):
    """An operator's word where a relay's reply would be: it has no code."""

    def __str__(self) -> str:
        return self.text


def read_intent(row: DueRow | None) -> Intent | None:
    """What was decided on the mail of a leased row."""
    intent = row.columns.get("intent") if row else None
    return Intent(intent) if intent else None


def settle_by_word(entry: LedgerEntry, recipients: list[str], row: DueRow, intent: Intent) -> dict[str, Outcome]:
    """The outcomes of a mail that an operator says was sent or has failed, for all whose outcome is open."""
    note = row.columns.get("intent_note") or ""
    words = f"settled by an operator as {intent}{f': {note}' if note else ''}"
    sent, failed = Sent(_Word(0, words)), Failed(None, words, FailureReason.UNKNOWN)
    return dict.fromkeys(entry.open_of(recipients), sent if intent is Intent.SENT else failed)


def find_relay(entry: LedgerEntry) -> str:
    """The relay that may have the mail."""
    return pick_relay((each.state, each.relay) for each in entry.results.values())


def pick_relay(results: Iterable[tuple[str, str]]) -> str:
    """The relay that may have a mail, from its recipients' states and relays: others may have got it by another one."""
    found = sorted((state == RecipientState.UNKNOWN, place, relay) for place, (state, relay) in enumerate(results))
    return next((relay for _, _, relay in reversed(found) if relay), "")
