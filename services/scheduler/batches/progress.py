"""How a batch stands, and how fast it goes. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from services.scheduler.pacing.pace import Pace, find_percent
from services.scheduler.pacing.states import OPEN_STATES, BulkState


class BatchState(StrEnum):
    """`receiving → running ⇄ paused → finished`, or `→ cancelled`; `receiving → aborted`: then nothing was sent."""

    RECEIVING = "receiving"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it is kept, with what its lane says. `items` counts all of the upload, `invalid` the bad ones."""

    id: UUID
    account: str
    name: str | None
    kept_state: str
    detail: str | None
    items: int
    invalid: int
    test: bool
    retry_of: UUID | None
    retried_as: UUID | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    rate: float | None
    sampled_at: datetime | None
    sampled_ended: int
    paused: bool
    cancelled_at: datetime | None
    changed_at: datetime | None
    counts: dict[BulkState, int]

    @property
    def state(self) -> BatchState:
        """What it does."""
        if self.kept_state != "open":
            return BatchState(self.kept_state)
        if self.cancelled_at:
            return BatchState.CANCELLED
        if self.finished_at:
            return BatchState.FINISHED
        return BatchState.PAUSED if self.paused else BatchState.RUNNING

    @property
    def accepted(self) -> int:
        """Mails."""
        return self.items - self.invalid

    @property
    def open(self) -> int:
        """Mails of which something is still to come."""
        return sum(self.counts[state] for state in OPEN_STATES)

    @property
    def ended(self) -> int:
        """Mails that have their end."""
        return sum(self.counts.values()) - self.open

    @property
    def percent(self) -> float:
        """Of the mails that have their end; 100 only once every one has."""
        if self.finished_at:
            return 100.0
        return find_percent(self.ended, self.accepted)

    @property
    def revision(self) -> str:
        """Another one whenever there is something new to tell."""
        moments = [each for each in (self.created_at, self.changed_at, self.started_at, self.finished_at) if each]
        return f"{int(max(moments).timestamp() * 1_000_000):x}{'-' if self.finished_at else ''}"

    @property
    def pace(self) -> Pace:
        """How fast it goes."""
        return Pace(self.rate, self.sampled_at, self.sampled_ended)

    @property
    def is_over(self) -> bool:
        """Every mail has its end."""
        return self.open == 0

    @property
    def rests(self) -> bool:
        """It never does: that it is over is for looks to find out."""
        return False

    def estimate_end(self) -> datetime | None:
        """When it ends if it goes on as it does; None where it does not go on."""
        return self.pace.estimate_end(self.open) if self.state is BatchState.RUNNING else None
