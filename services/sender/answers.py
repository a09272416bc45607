"""What a relay's refusals mean, as a table. Data and the search in it; classify.py makes an outcome of what is found.

After RFC 5321 §4.2 (reply codes), RFC 3463 and RFC 5248 (enhanced status codes and their registry), and what well-known
providers write. A Python table and no file beside the code: its types are checked, nothing is read at the start, and
nothing can be left out of a package. The first rule that matches decides. Each carries an example that only it may
take: `tests/unit/test_sender_answers.py` proves that, and that none contradicts a reply's class by accident.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class Kind(StrEnum):
    """What an answer asks of us."""

    PERMANENT = "permanent"
    """The same mail would be refused again."""
    TRANSIENT = "transient"
    """This mail, or this recipient, later."""
    RATE_LIMITED = "rate_limited"
    """Later, and fewer at a time: it is about how much we send, not about what."""
    RELAYS_TROUBLE = "relays_trouble"
    """The relay's own state, or an operator's to mend (credentials, TLS, permission); no fault of the mail."""
    UNKNOWN = "unknown"
    """No answer the protocol knows."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. Matches where `codes`, `status` and `words`, as far as given, all do.

    `codes`: reply codes, or `4xx` or `5xx` for a class. `status`: enhanced codes as `subject.detail`, `*` for any
    detail. `words`: a regular expression, found anywhere, in any case. `slower`: the relay wants less at a time.
    `dead`: the address itself takes no mail, now or later. `operators`: credentials or TLS are wanted or refused, so
    whoever else's mail comes meets the same. `too_many`: of one transaction's recipients; welcome in another, at once.
    `against_class`: why a 5yz is not final.
    """

    kind: Kind
    example: str
    codes: str = ""
    status: str = ""
    words: str = ""
    slower: bool = False
    dead: bool = False
    operators: bool = False
    too_many: bool = False
    against_class: str = ""

    def admits(self, code: int) -> bool:
        """Whether the reply code is among `codes`."""
        return not self.codes or any(each in (str(code), f"{code // 100}xx") for each in self.codes.split())

    def covers(self, detail: str) -> bool:
        """Whether an enhanced code without its class, such as `1.1`, is among `status`."""
        subject = detail.partition(".")[0] + ".*"
        return not self.status or any(each in (detail, subject) for each in self.status.split())

    def finds(self, words: str) -> bool:
        """Whether the relay's words are those meant."""
        return not self.words or re.search(self.words, words, re.IGNORECASE) is not None


_PACE = (
    r"throttl|\brate.{0,3}limit|sending rate|unusual rate|too fast|slow down|server (?:is )?(?:too )?busy|relay limit"
    r"|too (?:many|much) (?:concurrent |simultaneous )?(?:connection|session|message|e?mail\b|e?mails)"
    r"|(?:daily|hourly|sending|submission) (?:\w+ ){0,2}(?:quota|limit)"
)
_OUR_PERMISSION = (
    r"relay(?:ing)? (?:access )?(?:is )?(?:denied|not (?:allowed|permitted)|prohibited)"
    r"|(?:unable|not permitted) to relay|authentication (?:is )?required|not authenticated"
    r"|must (?:first )?(?:authenticate|issue a starttls)"
)
_OUR_ADDRESS = r"client host|blocked using|\b(?:dns[br]l|rbl)\b|\bip\b.{0,60}(?:block|black|reputation)|reverse dns"
_NO_SUCH_USER = (
    r"no such (?:user|recipient|mailbox|person|address)|(?:user|recipient|mailbox|address|account)\b.{0,80}"
    r"(?:unknown|not found|(?:does not|doesn.t) exist|no longer (?:valid|available))"
    r"|(?:unknown|invalid|non-?existent) (?:local )?(?:user|recipient|mailbox)"
)

_PASSES = "the bound is one on time: the same mail is welcome later"
_OPERATORS = "what refuses the mail is not in the mail: an operator mends it, and nothing is to be burnt until then"
_AS_452 = "RFC 5321 §4.5.3.1.10: as if it were 452"

RULES: tuple[Rule, ...] = (
    # A full mailbox, whatever it is called (RFC 3463 §3.3); the class says whether to wait.
    Rule(Kind.TRANSIENT, "452 4.2.2 Mailbox full", "4xx", "2.2"),
    Rule(Kind.PERMANENT, "552 5.2.2 Mailbox full", "5xx", "2.2"),
    # How much we send.
    Rule(Kind.TRANSIENT, "450 4.2.1 The user is receiving mail too quickly", "4xx", words="receiving mail (?:at|too)"),
    Rule(Kind.RATE_LIMITED, "550 5.7.28 Mail flood", status="7.28", slower=True, against_class=_PASSES),
    Rule(
        Kind.RATE_LIMITED,
        "454 Throttling failure: Maximum sending rate exceeded.",
        words=_PACE,
        slower=True,
        against_class=_PASSES,
    ),
    Rule(Kind.TRANSIENT, "450 4.7.1 <a@x.org>: Recipient address rejected: Greylisted", "4xx", words="gr[ae]y.?list"),
    Rule(Kind.RATE_LIMITED, "421 4.7.0 Try again later, closing connection", "421", "7.*", slower=True),
    # Credentials, TLS, permission (RFC 4954 §6, RFC 3207 §4, RFC 5248): ours to mend.
    Rule(
        Kind.RELAYS_TROUBLE,
        "530 5.7.0 Sign in first",
        "525 530 534 535 538",
        operators=True,
        against_class=_OPERATORS,
    ),
    Rule(
        Kind.RELAYS_TROUBLE,
        "550 5.7.8 No",
        "5xx",
        "7.8 7.9 7.10 7.11 7.12 7.13 7.14",
        operators=True,
        against_class=_OPERATORS,
    ),
    Rule(Kind.RELAYS_TROUBLE, "432 4.7.12 A password transition is needed", "432", operators=True),  # RFC 4954 §6
    Rule(Kind.RELAYS_TROUBLE, "554 5.7.1 Relay access denied", "5xx", words=_OUR_PERMISSION, against_class=_OPERATORS),
    Rule(
        Kind.RELAYS_TROUBLE,
        "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.example.org",
        "5xx",
        words=_OUR_ADDRESS,
        slower=True,
        against_class=_OPERATORS,
    ),
    Rule(Kind.RELAYS_TROUBLE, "454 4.7.0 Temporary authentication failure", "454", slower=True),
    # The relay itself.
    Rule(Kind.RELAYS_TROUBLE, "452 4.3.1 Insufficient system storage", "4xx", "3.1 3.2 3.5", slower=True),
    Rule(Kind.RELAYS_TROUBLE, "554 5.3.5 System incorrectly configured", "5xx", "3.5", against_class=_OPERATORS),
    Rule(Kind.RELAYS_TROUBLE, "451 4.4.5 Mail system congestion", "4xx", "4.5", slower=True),
    Rule(Kind.RELAYS_TROUBLE, "421 Service not available", "421", slower=True),
    # Too many recipients at once.
    Rule(Kind.TRANSIENT, "452 4.5.3 Too many recipients", "4xx", "5.3", too_many=True),
    Rule(Kind.TRANSIENT, "452 too many recipients", "452", words="too many recipients", too_many=True),
    Rule(Kind.TRANSIENT, "552 5.5.3 Too many", "552", "5.3", too_many=True, against_class=_AS_452),
    Rule(
        Kind.TRANSIENT,
        "552 Too many recipients",
        "552",
        words="too many recipients",
        too_many=True,
        against_class=_AS_452,
    ),
    # One recipient, one destination, one content: later.
    Rule(Kind.TRANSIENT, "450 4.2.1 Mailbox busy", "4xx", "1.* 2.* 6.*"),
    Rule(Kind.TRANSIENT, "451 4.4.1 No answer from host", "4xx", "4.*"),
    Rule(Kind.TRANSIENT, "451 4.3.0 Try again later", "450 451", slower=True),
    Rule(Kind.TRANSIENT, "452 4.5.0 Later", "4xx"),
    # Final.
    Rule(Kind.PERMANENT, "552 5.3.4 Message too big", "5xx", "2.3 3.4"),
    Rule(Kind.PERMANENT, "550 Over quota", "5xx", words=r"(?:mailbox|account|user)\b.{0,40}\bfull|quota"),
    Rule(Kind.PERMANENT, "553 5.6.7 Addresses beyond ASCII not permitted", "5xx", "6.*"),
    Rule(Kind.PERMANENT, "550 5.1.8 <a@x.org>: Sender address rejected: Domain not found", "5xx", "1.7 1.8"),
    Rule(Kind.PERMANENT, "550 Sender verify failed", "5xx", words=r"\bsender\b"),
    Rule(Kind.PERMANENT, "550 5.1.1 No", "5xx", "1.1 1.2 1.3 1.6 1.10 2.1 7.17 7.18", dead=True),
    Rule(Kind.PERMANENT, "550 User unknown", "550 551 553 554", words=_NO_SUCH_USER, dead=True),
    Rule(Kind.PERMANENT, "556 Domain does not accept mail", "556", dead=True),  # RFC 7504
    Rule(Kind.PERMANENT, "550 5.7.1 Refused by policy", "5xx", "7.*"),
    Rule(Kind.PERMANENT, "554 Transaction failed", "5xx"),
)


def find_rule(code: int, status: str | None, words: str) -> Rule | None:
    """The first rule that matches; `status` is the enhanced code. None: no answer of SMTP's two classes of refusals.

    Where the enhanced code's class differs from the reply code's, the latter counts (RFC 5321 §4.2.1).
    """
    return search(_rules_for(code), code, status, words)


def search(rules: Iterable[Rule], code: int, status: str | None, words: str) -> Rule | None:
    """The first of these rules that matches."""
    detail = status.partition(".")[2] if status else ""
    return next((each for each in rules if each.admits(code) and each.covers(detail) and each.finds(words)), None)


@lru_cache(maxsize=256)
def _rules_for(code: int) -> tuple[Rule, ...]:
    return tuple(each for each in RULES if each.admits(code)) if 400 <= code < 600 else ()
