"""How a mailing stands: what its lane counts, and why some failed. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from services.scheduler.mailings.mailing import MailingState
from services.scheduler.mailings.states import KEPT_AS, MessageState, show_state
from services.scheduler.pacing.pace import Pace, find_percent
from services.scheduler.pacing.states import ENDS, BulkState

_QUIET = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class MailingStanding:
    """A mailing's counters, all of one moment; `now` is that moment, by PostgreSQL. `unsubscribed`: by its links.

    `revision`: one more whenever it is tried again; `changed_at`: when any of this, but `unsubscribed`, changed last.
    """

    id: UUID
    account: str
    test: bool
    revision: int
    name: str
    state: MailingState
    counts: Mapping[BulkState, int]
    unsubscribed: int
    pace: Pace
    created_at: datetime
    changed_at: datetime
    started_at: datetime | None
    frozen_at: datetime | None
    finished_at: datetime | None
    now: datetime

    def count(self, state: MessageState) -> int:
        """Recipients in a state, as it is shown."""
        return sum(self.counts[kept] for kept in KEPT_AS[state])

    @property
    def in_flight(self) -> int:
        """Recipients whose mail the senders have."""
        return sum(count for kept, count in self.counts.items() if show_state(kept, None).in_flight)

    @property
    def ended(self) -> int:
        """Recipients of whom nothing more comes by itself."""
        return sum(self.counts[kept] for kept in ENDS)

    @property
    def is_over(self) -> bool:
        """Every mail has its end, and none gets another: only its jobs can tell."""
        return self.finished_at is not None

    @property
    def rests(self) -> bool:
        """It is paused, or waits for somebody's hours."""
        return self.now - self.changed_at > _QUIET

    @property
    def percent(self) -> float | None:
        """Of the recipients of whom nothing more comes; 100 only at the end, None until all have been taken in."""
        if self.finished_at:
            return 100.0
        return min(find_percent(self.ended, self.total), 99.9) if self.frozen_at else None

    @property
    def estimated_end(self) -> datetime | None:
        """If it goes on as it does; None where it does not go on, or nobody knows yet how many there are."""
        if self.state is not MailingState.RUNNING or self.frozen_at is None or self.finished_at:
            return None
        return self.pace.estimate_end(self.total - self.ended)

    @property
    def mark(self) -> str:
        """Another one whenever there is something new to tell."""
        return f"{int(self.changed_at.timestamp() * 1_000_000):x}{'-' if self.finished_at else ''}"

    @property
    def total(self) -> int:
        """Recipients that were taken in."""
        return sum(self.counts.values())

    @property
    def duration_s(self) -> float | None:
        """From the start to the end, or until now; None where it has not begun."""
        if self.started_at is None:
            return None
        return max(0.0, ((self.finished_at or self.now) - self.started_at).total_seconds())

    @property
    def rate(self) -> float | None:
        """Mails the relays took, a second, on average since the start."""
        duration = self.duration_s
        return self.count(MessageState.SUCCESS) / duration if duration else None


def merge_reasons(found: Mapping[tuple[BulkState, str | None], int]) -> dict[str, int]:
    """How many failed for which reason, most frequent first, from what is counted by state and kept reason."""
    reasons: dict[str, int] = {}
    for (kept, reason), count in found.items():
        standing = show_state(kept, reason)
        if standing.state is MessageState.FAIL:
            name = standing.reason or "unknown"
            reasons[name] = reasons.get(name, 0) + count
    return dict(sorted(reasons.items(), key=lambda each: (-each[1], each[0])))
