"""Where test mail ends: a relay that answers by the recipient's address, opens no connection and sends nothing.

Everything before it and after it is as for any mail: ledger, message, classification, retries, events. Its words go
through the same table as a relay's (answers.py).
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from services.sender.classify import Reply
from services.sender.parcel import Ending, Parcel
from services.sender.retries import RetryPolicy
from services.sender.tally import judge
from shared.metrics import RELAY_MAILS

SIMULATOR = "simulator"
"""Its name in results; no relay of the settings may have it."""

DOMAIN = "simulator.test"  # `.test` is nobody's (RFC 6761)

_TAKEN = Reply(250, "2.0.0 Simulated: taken, and sent to nobody")
_REFUSALS = {
    "bounce": Reply(550, "5.1.1 Simulated: no such user"),
    "defer": Reply(451, "4.4.1 Simulated: the recipient's host does not answer, try again later"),
}
_SILENT = "hang"
_FIRST_RETRY = timedelta(seconds=5)


def simulate(parcels: Iterable[Parcel]) -> None:
    """Give each parcel its ending, at once."""
    for parcel in parcels:
        parcel.relay = SIMULATOR
        if parcel.may_write():
            _answer(parcel)
        else:
            parcel.end(Ending.FORBIDDEN, "the claim's lease has run out")
        RELAY_MAILS.labels(relay=SIMULATOR, outcome=judge(parcel).outcome).inc()


def hasten(policy: RetryPolicy) -> RetryPolicy:
    """The same retries, and a first one that somebody who tries it out can wait for."""
    return replace(policy, delays=(min((_FIRST_RETRY, *policy.delays[:1])), *policy.delays))


def find_reply(address: str) -> Reply | None:
    """What becomes of a recipient; None: no reply after the content. `bounce+7@simulator.test` is as `bounce@…`."""
    local, _, domain = address.lower().rpartition("@")
    if domain != DOMAIN:
        return _TAKEN
    name = local.partition("+")[0]
    return None if name == _SILENT else _REFUSALS.get(name, _TAKEN)


def _answer(parcel: Parcel) -> None:
    """As a relay would: refusals answer RCPT, and where nobody is left no content is written."""
    replies = [find_reply(address.decode()) for address in parcel.recipients]
    parcel.replies = replies
    parcel.content_answered = any(reply and reply.code < 300 for reply in replies)
    if None in replies:
        parcel.end(Ending.UNANSWERED, "simulated")
    else:
        parcel.end(Ending.ANSWERED)
