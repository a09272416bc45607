"""Rows of a file become contacts: of each recipient all at once, and row by row where that would be too much of him."""

from collections.abc import Sequence
from typing import NamedTuple

from services.scheduler.contacts.contact_import import Tally
from services.scheduler.contacts.merging import GROWN, fold_rows, list_turns
from services.scheduler.contacts.store import ContactStore, Merged
from services.scheduler.importing.recipients import Recipient
from services.scheduler.importing.rows import BadRow


class Taken(NamedTuple):
    """What became of rows. `refused` are not in `counts`: their contacts would have more than a contact may have."""

    counts: Tally
    refused: list[BadRow]


async def take_rows(contacts: ContactStore, account: str, rows: Sequence[Recipient]) -> Taken:
    """Store them, as if one after the other. Raises DatabaseUnavailable."""
    folded = fold_rows(rows)
    merged = await _merge(contacts, account, [each for each in folded.recipients if each.id not in folded.grown])
    apart = folded.grown | merged.refused
    if apart:
        folded = fold_rows(row for row in rows if row.id not in apart)
    created, changed = len(merged.created), len(merged.changed)
    unchanged = len(folded.recipients) - created - changed + folded.repeated
    taken = Taken(Tally(created, changed + folded.amended, unchanged), [])
    for turn in list_turns(row for row in rows if row.id in apart):
        _count(taken, turn, await _merge(contacts, account, turn))
    return taken


async def _merge(contacts: ContactStore, account: str, recipients: Sequence[Recipient]) -> Merged:
    return await contacts.merge(account, recipients) if recipients else Merged()


def _count(taken: Taken, turn: Sequence[Recipient], merged: Merged) -> None:
    refused = [BadRow(row.number, row.line, "attributes", GROWN) for row in turn if row.id in merged.refused]
    taken.refused.extend(refused)
    taken.counts.created += len(merged.created)
    taken.counts.changed += len(merged.changed)
    taken.counts.unchanged += len(turn) - len(merged.created) - len(merged.changed) - len(refused)
