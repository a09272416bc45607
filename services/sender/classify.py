"""Where an SMTP reply is turned into an outcome. Pure; change policy here.

After RFC 5321 §4.2 (reply codes) and RFC 3463 (enhanced codes). One call per recipient.
"""

import re
from dataclasses import dataclass

from shared.states import FailureReason

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})\b")
TEXT_LIMIT = 500  # characters of a relay's words that are kept; see ledger.py for many recipients


@dataclass(frozen=True, slots=True)
class Reply:
    """A relay's answer: its code, and its words without the code (lines joined by a space)."""

    code: int
    text: str = ""

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 3463) at the beginning of the words, where there is one."""
        match = _ENHANCED.match(self.text)
        return match[1] if match else None

    def __str__(self) -> str:
        return f"{self.code} {self.text}"[:TEXT_LIMIT].rstrip()


@dataclass(frozen=True, slots=True)
class Sent:
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

# Answers whose class says one thing and whose meaning is another.
_TRANSIENT_IN_SPITE_OF_5XX = frozenset({552})  # "too many recipients", RFC 5321 §4.5.3.1.10: as if it were 452
# The relay wants AUTH or TLS first (RFC 4954 §6): the operator's to mend, no reason to fail every mail of a topic.
_OPERATORS_TURN = frozenset({530, 534, 535, 538})
_RECIPIENT_COUNT = re.compile(r"too many recipients", re.IGNORECASE)


def classify(reply: Reply, *, content_written: bool) -> Outcome:
    """One recipient's final reply → its outcome. `content_written`: the reply answers the final dot."""
    words = str(reply)
    if content_written and 200 <= reply.code < 300:  # before the content nobody has taken anything
        return Sent(reply)
    if 400 <= reply.code < 500:
        return Deferred(reply, words)
    if 500 <= reply.code < 600:
        if reply.code in _TRANSIENT_IN_SPITE_OF_5XX and _RECIPIENT_COUNT.search(reply.text):
            return Deferred(reply, words)
        if reply.code in _OPERATORS_TURN:
            return Deferred(reply, words, FailureReason.RELAY_UNAVAILABLE)
        return Failed(reply, words)
    diagnostic = f"unexpected reply: {words}"
    return Unknown(diagnostic) if content_written else Deferred(reply, diagnostic)


# --- too fast ---

_SLOW_DOWN_CODES = frozenset({421, 450, 451, 454})
_ABOUT_ONE_MAIL = re.compile(r"[45]\.[126]\.|4\.5\.3\b|4\.7\.1\b.*gr[ae]y.?list", re.IGNORECASE)
_TOO_FAST = re.compile(
    r"[45]\.7\.28\b|rate.?limit|throttl|too (?:fast|many (?:connections|messages|mails))|sending rate|slow down",
    re.IGNORECASE,
)


def asks_to_slow_down(reply: Reply) -> bool:
    """Whether the answer is about how fast or how much we send, or the relay's own load, not about one mail."""
    if reply.code < 400:
        return False
    if _TOO_FAST.search(reply.text):
        return True
    return reply.code in _SLOW_DOWN_CODES and not _ABOUT_ONE_MAIL.match(reply.text)
