"""Where an SMTP reply is turned into an outcome, by the table in answers.py. Pure. One call per recipient."""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from services.sender.answers import Kind, Rule, find_rule
from shared.states import FailureReason

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})\b")
WORDS_LIMIT = 2000  # characters of them that are searched for known texts
TEXT_LIMIT = 500  # characters of a relay's words that are kept; see ledger.py for many recipients


@dataclass(frozen=True, slots=True)
class Reply:
    """A relay's answer: its code, and its words without the code (lines joined by a space).

    `pause_s`: for how many seconds it wants no mail at all, where it says so (`Retry-After` of a send API).
    """

    code: int
    text: str = ""
    pause_s: float | None = field(default=None, compare=False)

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 3463) at the beginning of the words, where there is one."""
        match = _ENHANCED.match(self.text)
        return match[1] if match else None

    def __str__(self) -> str:
        return f"{self.code} {self.text}"[:TEXT_LIMIT].rstrip()


class Sent(NamedTuple):
    """The relay took the mail for this recipient."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now; worth trying again. `reply` is None where the relay did not get to answer."""

    reply: Reply | None
    diagnostic: str
    reason: FailureReason = FailureReason.DEFERRED


@dataclass(frozen=True, slots=True)
class Failed:
    """Final: this recipient will not get the mail."""

    reply: Reply | None
    diagnostic: str
    reason: FailureReason = FailureReason.REJECTED


@dataclass(frozen=True, slots=True)
class Unknown:
    """Content was written and no answer came: nobody can know whether the relay has the mail (P6)."""

    diagnostic: str


Outcome = Sent | Deferred | Failed | Unknown


_REASONS = {
    Kind.TRANSIENT: FailureReason.DEFERRED,
    Kind.RATE_LIMITED: FailureReason.DEFERRED,
    Kind.RELAYS_TROUBLE: FailureReason.RELAY_UNAVAILABLE,
}


def classify(reply: Reply, *, content_written: bool) -> Outcome:
    """One recipient's final reply → its outcome. `content_written`: the reply answers the final dot."""
    if content_written and 200 <= reply.code < 300:  # before the content nobody has taken anything
        return Sent(reply)
    words = str(reply)
    kind = kind_of(reply)
    if kind is Kind.PERMANENT:
        return Failed(reply, words)
    if kind is not Kind.UNKNOWN:
        return Deferred(reply, words, _REASONS[kind])
    diagnostic = f"unexpected reply: {words}"
    return Unknown(diagnostic) if content_written else Deferred(reply, diagnostic)


def kind_of(reply: Reply) -> Kind:
    """What a refusal asks of us; UNKNOWN for anything that refuses nothing."""
    rule = _find(reply)
    return rule.kind if rule else Kind.UNKNOWN


def asks_to_slow_down(reply: Reply) -> bool:
    """Whether the answer is about how fast or how much we send, or the relay's own load, not about one mail."""
    rule = _find(reply)
    return rule is not None and rule.slower


def is_for_operators(reply: Reply) -> bool:
    """Whether the relay will have nobody's mail until an operator has mended credentials or TLS."""
    rule = _find(reply)
    return rule is not None and rule.operators


def lacks_room(reply: Reply) -> bool:
    """Whether a recipient is only one too many for this transaction, and welcome in the next (RFC 5321 §4.5.3.1.10)."""
    rule = _find(reply)
    return rule is not None and rule.too_many


def tells_of_dead_address(reply: Reply) -> bool:
    """Whether the address itself takes no mail, now or later. Meant for the reply to one recipient's RCPT."""
    rule = _find(reply)
    return rule is not None and rule.dead


def _find(reply: Reply) -> Rule | None:
    return find_rule(reply.code, reply.enhanced, reply.text[:WORDS_LIMIT]) if reply.code >= 400 else None
