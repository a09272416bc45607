"""What becomes of mails at one relay: judged for its breaker and its pace, counted for its metrics."""

from dataclasses import dataclass

from services.sender.answers import Kind
from services.sender.classify import Reply, asks_to_slow_down, is_for_operators, kind_of
from services.sender.parcel import Ending, Parcel
from shared.metrics import BREAKER_OPEN, RELAY_CONNECTIONS, RELAY_MAILS, RELAY_RATE, RELAY_SLOWED

_UNFIT = (Reply(553, "5.6.7"), Reply(552, "5.3.4"))  # what abilities.py says where the relay cannot carry the mail


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one ending says of the relay. `outcome` is the metric's label.

    `trouble`: the relay's own, in its words; empty where the answer was about the mail. `returnable`: the mail has not
    been tried in any sense that counts, and may go on. `unfit`: this relay cannot carry it, another may. `slower`: it
    may mean that mail comes too fast; `explicit`: it says so. `pause_s`: it wants none at all for so long.
    """

    outcome: str
    slower: bool = False
    explicit: bool = False
    pause_s: float = 0.0
    trouble: str = ""
    operators: bool = False
    returnable: bool = False
    unfit: bool = False
    silent: bool = False  # says nothing of the relay

    @property
    def broken(self) -> bool:
        """Whether the connection broke or hung with it."""
        return self.outcome in ("broken", "unknown")


def judge(parcel: Parcel) -> Judgement:
    """From a parcel that has its ending."""
    ending = parcel.ending
    if ending is Ending.FORBIDDEN:
        return Judgement("not_begun", silent=True)
    replies = [reply for reply in parcel.replies if reply is not None]
    refusals = [reply for reply in replies if reply.code >= 400]
    kinds = {kind_of(reply) for reply in refusals}
    explicit = Kind.RATE_LIMITED in kinds
    slower = explicit or any(asks_to_slow_down(reply) for reply in refusals)
    pause_s = max((reply.pause_s or 0.0 for reply in refusals), default=0.0)
    if ending is Ending.UNANSWERED:
        return Judgement("unknown", slower, explicit, trouble=parcel.diagnostic)
    if parcel.content_answered and len(refusals) < len(replies):
        return Judgement("sent", slower, explicit)
    if ending is Ending.INTERRUPTED:
        why = str(refusals[0]) if refusals else parcel.diagnostic
        return Judgement("broken", explicit, explicit, trouble=why, returnable=True)
    if kinds == {Kind.RELAYS_TROUBLE}:
        operators, returnable = any(map(is_for_operators, refusals)), not parcel.content_answered
        return Judgement("deferred", slower, explicit, pause_s, str(refusals[0]), operators, returnable)
    unfit = not parcel.content_answered and any(_is_unfit(reply) for reply in refusals)
    outcome = "refused" if Kind.PERMANENT in kinds else "deferred"
    return Judgement(outcome, slower, explicit, pause_s, unfit=unfit)


def _is_unfit(reply: Reply) -> bool:
    return any(reply.code == each.code and reply.text.startswith(each.text) for each in _UNFIT)


class Tally:
    """Counts in plain integers, and shows them a few times a second: a metric costs more than all else here."""

    def __init__(self, relay: str) -> None:
        self.sent = 0
        self._others: dict[str, int] = {}
        self._relay = relay
        self._connections = RELAY_CONNECTIONS.labels(relay=relay)
        self._open = BREAKER_OPEN.labels(relay=relay)
        self._rate = RELAY_RATE.labels(relay=relay)
        self._slowed = RELAY_SLOWED.labels(relay=relay)
        self._mails_sent = RELAY_MAILS.labels(relay=relay, outcome="sent")

    def count(self, outcome: str) -> None:
        """A mail that was not simply sent."""
        self._others[outcome] = self._others.get(outcome, 0) + 1

    def show(self, *, connections: int, is_open: bool, rate: float | None, slowed: bool) -> None:
        """Set the metrics."""
        self._connections.set(connections)
        self._open.set(int(is_open))
        self._rate.set(float("inf") if rate is None else rate)
        self._slowed.set(int(slowed))
        if self.sent:
            self._mails_sent.inc(self.sent)
            self.sent = 0
        for outcome, count in self._others.items():
            RELAY_MAILS.labels(relay=self._relay, outcome=outcome).inc(count)
        self._others.clear()
