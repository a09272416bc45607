"""A record that ends every process that reads it: found, held back, and skipped by an operator (R4).

Who reads a partition says so in a row, and takes its name out when it leaves cleanly. A name left behind is a death.
After two deaths in a row the partition is read carefully, one record at a time, each named before it begins. Three
deaths on one record, those before it was named alone counted where it was the head, and it is held: its partition waits
for `skip` or `release`, everything else goes on. Only reading is watched: what comes after it is the ledger's, or no
record's fault.
"""

from dataclasses import dataclass, replace

CAREFUL_AFTER = 2  # deaths
HOLD_AFTER = 3
_CAREFUL_FOR = 2_000  # records: more than were at work when the process died


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What is known of one partition. `suspect` and `trying` are offsets; careful up to and with `careful_until`."""

    suspect: int | None = None
    deaths: int = 0
    trying: int | None = None
    careful_until: int = -1

    def is_careful(self, offset: int) -> bool:
        """Whether this record is to be read alone."""
        return offset <= self.careful_until

    def is_held(self, offset: int) -> bool:
        """Whether this record must not be read again."""
        return offset == self.suspect and self.deaths >= HOLD_AFTER

    def clear(self) -> "Suspicion":
        """The suspect is out of the way."""
        return replace(self, suspect=None, deaths=0, trying=None)


def assess(known: Suspicion, head: int, *, died: bool) -> Suspicion:
    """A process begins to read a partition at `head`; `died`: whoever read it before never left.

    Outside careful reading the head stands for whatever was at work; a guess that only leads to careful reading.
    """
    suspect, deaths, careful_until = known.suspect, known.deaths, known.careful_until
    if died and known.trying is not None and known.trying >= head:
        if suspect == known.trying:
            deaths += 1
        else:  # the deaths before were another's, or a guess
            suspect, deaths = known.trying, CAREFUL_AFTER if known.is_careful(known.trying) else 1
        if deaths >= CAREFUL_AFTER:
            careful_until = max(careful_until, head + _CAREFUL_FOR)
    elif (suspect is None or suspect < head) and head > careful_until:
        suspect, deaths, careful_until = None, 0, -1
    return Suspicion(suspect, deaths, None if head <= careful_until else head, careful_until)
