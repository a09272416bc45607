"""Lanes: whoever shares the window fairly with others."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from services.scheduler.pacing.states import OPEN_STATES, BulkState


class LaneKind(StrEnum):
    """What the mails of a lane have in common."""

    BATCH = "batch"
    MAILING = "mailing"
    LOOSE = "loose"


class LaneKey(NamedTuple):
    """One batch or mailing of an account, or all the bulk mail it has beside those."""

    account: str
    kind: LaneKind
    name: str = ""


@dataclass(frozen=True, slots=True)
class LaneReport:
    """Where a lane's mails stand. Counters are kept with the rows, so this is one row, however many mails there are."""

    id: int
    key: LaneKey
    paused: bool
    cancelled_at: datetime | None
    counts: dict[BulkState, int]
    created_at: datetime
    changed_at: datetime

    @property
    def total(self) -> int:
        """All mails there are or were."""
        return sum(self.counts.values())

    @property
    def open(self) -> int:
        """Mails something is still to come of."""
        return sum(self.counts[state] for state in OPEN_STATES)


def choose_lane(account: str, mailing_id: str | None, batch_id: str | None) -> LaneKey:
    """The lane of a mail."""
    if mailing_id:
        return LaneKey(account, LaneKind.MAILING, mailing_id)
    return LaneKey(account, LaneKind.BATCH, batch_id) if batch_id else LaneKey(account, LaneKind.LOOSE)
