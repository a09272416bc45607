"""What the scheduler says on `schedule.tick`."""

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from shared.events.requested import DEFAULT_ACCOUNT
from shared.events.wire import Count, Instant, WireModel


class ScheduleTick(WireModel):
    """A task's occurrence has fallen due; the same occurrence may be told twice under one `occurrence_id`."""

    occurrence_id: UUID = Field(description="UUIDv5 of task and due time; of a run by hand a UUIDv7")
    task_id: int
    name: str
    job_name: str = Field(description="external:…: for others to run; any other the scheduler runs itself")
    args: dict[str, Any] = Field(default_factory=dict)
    due_at: Instant = Field(description="when it was due")
    account: str = DEFAULT_ACCOUNT


class MailingCounts(WireModel):
    """How many of a mailing's recipients came to which end; `recipients` are all, `skipped` had unsubscribed."""

    recipients: Count
    sent: Count
    failed: Count
    expired: Count
    cancelled: Count
    skipped: Count


class MailingFinished(WireModel):
    """Every mail of a mailing has its end. May be told twice, under one `ce_id`; tried again, it has another end."""

    mailing_id: UUID
    name: str
    state: Literal["finished", "cancelled"]
    counts: MailingCounts
    created_at: Instant
    started_at: Instant | None = Field(default=None, description="absent: cancelled before its start")
    finished_at: Instant
    account: str = DEFAULT_ACCOUNT
    test: bool = False


class BatchCounts(WireModel):
    """How many mails of a batch came to which end; `accepted` are all of them, `invalid` items were no mails."""

    accepted: Count
    invalid: Count
    sent: Count
    partially_sent: Count
    failed: Count
    expired: Count
    cancelled: Count


class BatchFinished(WireModel):
    """Every mail of a batch has its end. May be told twice, under one `ce_id`."""

    batch_id: UUID
    name: str | None = None
    state: Literal["finished", "cancelled"]
    counts: BatchCounts
    created_at: Instant
    started_at: Instant
    finished_at: Instant
    retry_of: UUID | None = None
    account: str = DEFAULT_ACCOUNT
    test: bool = False
