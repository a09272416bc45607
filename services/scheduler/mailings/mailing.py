"""A mailing: what it says, to whom, and when. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from services.scheduler.mailings.audience import Audience
from services.scheduler.mailings.hours import Hours


class MailingState(StrEnum):
    """`draft → scheduled → running ⇄ paused → finished | cancelled`."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"


EDITABLE = (MailingState.DRAFT, MailingState.SCHEDULED)
"""Nothing of it has been frozen."""
ADJUSTABLE = (MailingState.RUNNING, MailingState.PAUSED)
"""It may still be called otherwise, go faster or slower, and end at another time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailingDefinition:
    """All that is said of a mailing when it is made, and may be changed until it runs.

    `content`: `from`, `reply_to`, `subject`, `text`, `html` … as `email.bulk_requested` has them, checked; the last
    three are templates. `rate` in mails a second. `unsubscribe`: with the headers of RFC 8058.
    """

    name: str
    content: Mapping[str, Any]
    audience: Audience
    start_at: datetime | None = None
    finish_at: datetime | None = None
    hours: Hours | None = None
    rate: int | None = None
    unsubscribe: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailing:
    """A mailing as it is stored. `lane` is that of its mails, from its start on; times are UTC.

    `recipients` have a row so far; once `frozen_at` is set these are all. `freeze_cursor`: the last of them. From
    `recipients_deleted_at` on there are none any more: it was kept for long enough.
    """

    id: UUID
    account: str
    api_key_id: str
    test: bool
    definition: MailingDefinition
    state: MailingState
    lane: int | None
    freeze_cursor: UUID | None
    frozen_at: datetime | None
    recipients: int
    revision: int
    created_at: datetime
    changed_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    recipients_deleted_at: datetime | None
