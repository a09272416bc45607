"""What the scheduler says on `schedule.tick`."""

from typing import Any
from uuid import UUID

from pydantic import Field

from shared.events.requested import DEFAULT_ACCOUNT
from shared.events.wire import Instant, WireModel


class ScheduleTick(WireModel):
    """A task's occurrence has fallen due; the same occurrence may be told twice under one `occurrence_id`."""

    occurrence_id: UUID
    task_id: int
    name: str
    job_name: str
    args: dict[str, Any] = Field(default_factory=dict)
    due_at: Instant
    account: str = DEFAULT_ACCOUNT
