"""The ledger's row as a value, and the pure rules on it: what an attempt changes, who may take a mail on.

From a row alone all sent and final events of all attempts can be derived again (results.py), so a redelivery
publishes identically what was settled before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from services.sender.classify import TEXT_LIMIT, Deferred, Failed, Outcome, Reply, Sent, Unknown
from services.sender.retries import RetryPolicy
from shared.events import format_time
from shared.states import FINAL_STATES, FailureReason, RecipientState

MAX_UNKNOWNS = 3
_ALL_WORDS = 200_000  # bytes of relays' words kept for one mail: its result events must fit into a record


class LedgerState(StrEnum):
    """Where a mail stands in the ledger."""

    CLAIMED = "claimed"
    RELEASED = "released"  # no content was written, no attempt counted: anybody may claim it
    DEFERRED = "deferred"  # a due row holds the next attempt
    HELD = "held"  # unknown outcome, waits for an operator
    SETTLED = "settled"


class RecipientResult(NamedTuple):
    """What one attempt brought for one recipient."""

    address: str
    state: RecipientState
    attempt: int
    at: str  # RFC 3339, PostgreSQL's clock
    text: str = ""
    code: int | None = None
    enhanced: str | None = None
    relay: str = ""
    reason: FailureReason | None = None

    def to_json(self) -> dict[str, Any]:
        """As stored; defaults left out."""
        stored: dict[str, Any] = {
            "address": self.address,
            "state": self.state,
            "attempt": self.attempt,
            "at": self.at,
        }
        for name, value in zip(_OPTIONAL, self[4:], strict=True):
            if value:
                stored[name] = value
        return stored

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "RecipientResult":
        """Back from the row."""
        reason = stored.get("reason")
        return cls(
            stored["address"],
            RecipientState(stored["state"]),
            stored["attempt"],
            stored["at"],
            stored.get("text", ""),
            stored.get("code"),
            stored.get("enhanced"),
            stored.get("relay", ""),
            FailureReason(reason) if reason else None,
        )


_OPTIONAL = RecipientResult._fields[4:]  # stored where there is something to store


@dataclass(slots=True)
class LedgerEntry:
    """One mail in the ledger. `echo` is what result events give back of the request, as stored JSON.

    `id_text`: the id as text, written once; whoever has it already gives it.
    """

    id: UUID
    account: str
    digest: str
    message_id: str
    recipient_count: int
    accepted_at: datetime
    expires_at: datetime
    echo: dict[str, Any] = field(default_factory=dict)
    state: LedgerState = LedgerState.CLAIMED
    attempt: int = 1
    unknowns: int = 0
    retry_at: datetime | None = None
    results: dict[str, RecipientResult] = field(default_factory=dict)
    id_text: str = ""

    def __post_init__(self) -> None:
        self.id_text = self.id_text or str(self.id)

    def list_results(self) -> list[dict[str, Any]]:
        """All recipients' results as stored."""
        return [each.to_json() for each in self.results.values()]

    def pending_of(self, recipients: list[str]) -> list[str]:
        """Those to be tried again: neither final nor waiting for an operator."""
        results = self.results
        if not results:
            return recipients
        return [each for each in recipients if each not in results or results[each].state is RecipientState.DEFERRED]

    def open_of(self, recipients: list[str]) -> list[str]:
        """Those without a final outcome, whoever they wait for."""
        results = self.results
        return [each for each in recipients if each not in results or results[each].state not in FINAL_STATES]

    @property
    def in_doubt(self) -> bool:
        """Whether the relay may have taken the mail for those whose outcome is open: once unknown, in doubt (P6).

        Also after a later attempt had an answer, and where a lapsed claim left no result behind.
        """
        return self.unknowns > 0

    def apply(
        self, outcomes: Mapping[str, Outcome], now: datetime, policy: RetryPolicy, *, relay: str, hold: bool
    ) -> None:
        """Take the outcomes of this attempt in: results, state, retry time. `now` is PostgreSQL's."""
        at = _write_time(now)
        if len(outcomes) == 1 and self.recipient_count == 1 and not self.results:
            ((address, only),) = outcomes.items()
            if type(only) is Sent:  # what becomes of nearly every mail
                result = _to_sent(address, only.reply, self.attempt, at, relay)
                self.results[address] = result if len(result.text) * 4 <= TEXT_LIMIT else _cut(result, TEXT_LIMIT)
                self.state, self.retry_at = LedgerState.SETTLED, None
                return
        unknown = any(isinstance(each, Unknown) for each in outcomes.values())
        self.unknowns += unknown
        held = unknown and (hold or self.unknowns > MAX_UNKNOWNS)
        longest = min(TEXT_LIMIT, _ALL_WORDS // self.recipient_count)
        for address, outcome in outcomes.items():
            result = _to_result(address, outcome, self.attempt, at, relay, held)
            self.results[address] = result if len(result.text) * 4 <= longest else _cut(result, longest)
        self._conclude(now, policy, at_once=unknown and self.unknowns == 1)

    def _conclude(self, now: datetime, policy: RetryPolicy, *, at_once: bool) -> None:
        open_states = [each.state for each in self.results.values() if each.state not in FINAL_STATES]
        if not open_states:
            self.state, self.retry_at = LedgerState.SETTLED, None
        elif RecipientState.DEFERRED not in open_states:
            self.state, self.retry_at = LedgerState.HELD, None
        else:
            delay = timedelta(0) if at_once else policy.delay_after(self.attempt)
            self.state, self.retry_at = LedgerState.DEFERRED, min(now + delay, self.expires_at)

    @property
    def due_at(self) -> datetime:
        """When the due row must be looked at: the next attempt, or a held mail's expiry."""
        return self.retry_at or self.expires_at


def _to_result(address: str, outcome: Outcome, attempt: int, at: str, relay: str, held: bool) -> RecipientResult:
    if isinstance(outcome, Sent):
        return _to_sent(address, outcome.reply, attempt, at, relay)
    if isinstance(outcome, Unknown):
        state = RecipientState.UNKNOWN if held else RecipientState.DEFERRED
        return RecipientResult(
            address, state, attempt, at, outcome.diagnostic, relay=relay, reason=FailureReason.UNKNOWN
        )
    state = RecipientState.FAILED if isinstance(outcome, Failed) else RecipientState.DEFERRED
    code = outcome.reply.code if outcome.reply else None
    enhanced = outcome.reply.enhanced if outcome.reply else None
    return RecipientResult(address, state, attempt, at, outcome.diagnostic, code, enhanced, relay, outcome.reason)


@lru_cache(maxsize=16)
def _write_time(now: datetime) -> str:
    """Kept for the others of a group, which share it."""
    return format_time(now)


def _to_sent(address: str, reply: Reply, attempt: int, at: str, relay: str) -> RecipientResult:
    return RecipientResult(address, RecipientState.SENT, attempt, at, str(reply), reply.code, reply.enhanced, relay)


def _cut(result: RecipientResult, longest: int) -> RecipientResult:
    text = result.text.encode()[:longest].decode("utf-8", "ignore")
    return result._replace(text=text)


def defer_all(recipients: list[str], diagnostic: str, reason: FailureReason) -> dict[str, Outcome]:
    """The same deferral for all."""
    return dict.fromkeys(recipients, Deferred(None, diagnostic, reason))


def fail_all(recipients: list[str], diagnostic: str, reason: FailureReason) -> dict[str, Outcome]:
    """The same final failure for all."""
    return dict.fromkeys(recipients, Failed(None, diagnostic, reason))
