"""Which addresses are not written to: the form they are kept in, and which a relay's refusal adds."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Protocol

from services.sender.classify import Reply, tells_of_dead_address
from services.sender.ledger import LedgerEntry, RecipientResult
from services.sender.simulator import SIMULATOR
from shared.addresses import check_address
from shared.states import FailureReason, RecipientState

HARD_BOUNCE = "hard_bounce"


def normalise_address(text: str) -> str:
    """The form in which the claim compares: the domain in ASCII (RFC 5890), all of it in lower case.

    Raises InvalidAddress.
    """
    return check_address(text.strip()).lower()


class Notes(Protocol):
    """Where suppressions are kept."""

    async def note(self, addresses: set[tuple[str, str]], reason: str, lasting: timedelta) -> None:
        """Add (account, address), where nothing is in force yet. May raise Unavailable; may be repeated."""


def create_suppressor(notes: Notes, lasting: timedelta) -> Callable[[list[LedgerEntry]], Awaitable[None]]:
    """What suppresses the addresses that a relay has called dead, for `lasting`, in one statement for a group."""

    async def suppress(entries: list[LedgerEntry]) -> None:
        dead = find_dead_addresses(entries)
        if dead:
            await notes.note(dead, HARD_BOUNCE, lasting)

    return suppress


def find_dead_addresses(entries: Iterable[LedgerEntry]) -> set[tuple[str, str]]:
    """The (account, address) of whom the last attempt has told that they take no mail, now or later.

    A refusal that all of several recipients got in the same words may be about the mail: it names nobody. Nor does one
    that was simulated.
    """
    dead: set[tuple[str, str]] = set()
    for entry in entries:
        if entry.results:
            dead.update((entry.account, each.address.lower()) for each in _find_dead(entry))
    return dead


def _find_dead(entry: LedgerEntry) -> list[RecipientResult]:
    results = [each for each in entry.results.values() if each.attempt == entry.attempt]
    if len(results) > 1 and len({each.text for each in results}) == 1:
        return []
    return [
        each
        for each in results
        if each.state is RecipientState.FAILED
        and each.reason is FailureReason.REJECTED
        and each.code
        and each.relay != SIMULATOR
        and tells_of_dead_address(Reply(each.code, each.text.removeprefix(f"{each.code} ")))
    ]
