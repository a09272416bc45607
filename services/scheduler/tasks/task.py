"""A task: what is to be done, when, and how. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

EXTERNAL = "external:"
"""A task whose `job_name` begins with this is published for others, and not run here."""


class TaskStatus(StrEnum):
    """That of a task's latest run; CREATED before the first."""

    CREATED = "CREATED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class Misfire(StrEnum):
    """What becomes of due times that nobody was there for."""

    SKIP = "skip"
    RUN_ONCE = "run_once"


class Overlap(StrEnum):
    """Whether a task may run while it still runs."""

    ALLOW = "allow"
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a task is due, as `Schedule.build` takes it; `recurring_details` are an object."""

    recurring_interval: str | None = None
    recurring_details: Mapping[str, Any] | None = None
    cron: str | None = None
    timezone: str = "UTC"
    run_at: datetime | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDefinition:
    """All that is said of a task when it is made, and may be changed afterwards.

    `max_attempts` of a run that fails, with `backoff_s` before the second, doubled each time. `time_limit_s` of one
    attempt, None: the job's.
    """

    name: str
    job_name: str
    timing: Timing
    args: Mapping[str, Any] = field(default_factory=dict)
    enabled: bool = True
    misfire: Misfire = Misfire.RUN_ONCE
    overlap: Overlap = Overlap.ALLOW
    max_attempts: int = 1
    backoff_s: float = 30
    time_limit_s: float | None = None

    @property
    def is_external(self) -> bool:
        """Whether others run it."""
        return self.job_name.startswith(EXTERNAL)


@dataclass(frozen=True, slots=True)
class Creator:
    """The API key that made a task. `test`: its mail is simulated."""

    key_id: str | None = None
    name: str | None = None
    test: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as it is stored. `next_due_at` None: never again, or disabled; times are UTC."""

    id: int
    account: str
    definition: TaskDefinition
    creator: Creator
    status: TaskStatus
    created_at: datetime
    updated_at: datetime
    next_due_at: datetime | None
    revision: int = 0
