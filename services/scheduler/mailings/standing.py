"""How a mailing stands: what its lane counts, and why some failed. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.scheduler.mailings.mailing import MailingState
from services.scheduler.mailings.states import KEPT_AS, MessageState, show_state
from services.scheduler.pacing.states import ENDS, BulkState


@dataclass(frozen=True, slots=True)
class MailingStanding:
    """A mailing's counters, all of one moment; `now` is that moment, by PostgreSQL. `unsubscribed`: by its links."""

    id: UUID
    name: str
    state: MailingState
    counts: Mapping[BulkState, int]
    unsubscribed: int
    started_at: datetime | None
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
    def final(self) -> int:
        """Recipients of whom nothing more comes by itself."""
        return sum(self.counts[kept] for kept in ENDS)

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
