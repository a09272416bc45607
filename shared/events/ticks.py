"""What the scheduler says on `schedule.tick`."""

from typing import Any
from uuid import UUID

from pydantic import Field

from shared.events.requested import DEFAULT_ACCOUNT
from shared.events.wire import Instant, WireModel


class ScheduleTick(WireModel):
    """A task's occurrence has fallen due; the same occurrence may be told twice under one `occurrence_id`."""

    occurrence_id: UUID = Field(description="UUIDv5 of task and due time; of a run by hand a UUIDv7")
    task_id: int
    name: str
    job_name: str = Field(description="external:…: for others to run; any other the scheduler runs itself")
    args: dict[str, Any] = Field(default_factory=dict)
    due_at: Instant = Field(description="when it was due")
    account: str = DEFAULT_ACCOUNT
