"""An occurrence: one run of a task, or of a job without one. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class OccurrenceState(StrEnum):
    """`pending → published → ready → running → succeeded | failed`, or `skipped`.

    pending: not yet told on `schedule.tick`. ready: may be begun, or begun again after a failure. skipped: missed, or
    the task still ran.
    """

    PENDING = "pending"
    PUBLISHED = "published"
    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self in (OccurrenceState.SUCCEEDED, OccurrenceState.FAILED, OccurrenceState.SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """A run as it is stored.

    `scheduled_for`: its due time; by hand: when it was asked for. `attempt` counts every beginning, `failures` only
    what raised: a run is begun again after the death of its process, too. `error`: class and message of the last
    failure. `started_at` is that of the first attempt.
    """

    id: UUID
    account: str
    task_id: int | None
    name: str
    job_name: str
    args: Mapping[str, Any]
    scheduled_for: datetime
    by_hand: bool
    state: OccurrenceState
    attempt: int
    failures: int
    max_attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    due_at: datetime
    result: Any
    error: Mapping[str, str] | None
