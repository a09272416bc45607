"""What an account may see of mail that waits for its time, and what it may still change of it. Pure."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from services.scheduler.pacing.bulk_store import FoundMail
from services.scheduler.pacing.states import BulkState
from services.scheduler.waiting.delayed import DelayedState
from shared.cursors import mark_list, read_time_cursor, write_time_cursor
from shared.problems import Problem, invalid_content
from shared.ranges import check_range

_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_LEAST_ID = UUID(int=0)


class Change(StrEnum):
    """What an account asks of a mail that waits."""

    RESCHEDULE = "moved to another time"
    CANCEL = "cancelled"


@dataclass(frozen=True, slots=True)
class ScheduledMail:
    """What an account may know of a mail, or a bulk event, that waits or waited."""

    id: UUID
    state: DelayedState
    due_at: datetime
    expires_at: datetime | None
    created_at: datetime | None
    rescheduled_at: datetime | None
    released_at: datetime | None
    cancelled_at: datetime | None
    bulk_id: UUID | None
    mail_count: int | None
    is_paced: bool = False  # it has `priority: bulk`


Attempt = Callable[[], Awaitable[ScheduledMail | None]]


@dataclass(frozen=True, slots=True)
class WaitingList:
    """An account's mail, soonest first, due at `since` or later and before `until`; `state` None: what still waits."""

    account: str
    state: DelayedState | None
    since: datetime
    until: datetime

    @property
    def start(self) -> tuple[datetime, UUID]:
        """The position that the first page comes after."""
        return (self.since, _LEAST_ID)

    def read_cursor(self, text: str) -> tuple[datetime, UUID]:
        """The position a page comes after. Raises Problem 422 for what no page of this list has given."""
        return read_time_cursor(text, "/query/after", of=self._mark)

    def write_cursor(self, mail: ScheduledMail) -> str:
        """The position after a mail."""
        return write_time_cursor(mail.due_at, mail.id, of=self._mark)

    @property
    def _mark(self) -> str:
        return mark_list(self.account, self.state or "", self.since.isoformat(), self.until.isoformat())


def choose_list(
    account: str, state: DelayedState | None, since: datetime | None, until: datetime | None
) -> WaitingList:
    """The list that is asked for. Raises Problem 422 where no time lies in the range."""
    check_range(since, until)
    return WaitingList(account, state, since or _FIRST, until or _LAST)


async def carry_out(change: Change, apply: Attempt, find: Attempt, send_at: datetime | None = None) -> ScheduledMail:
    """Change a mail, or find that it is already as it is to be. Raises Problem 404, 409 or 422.

    Between two statements the mail may have come, or have been moved by somebody else: then it is tried again.
    """
    while True:
        done = await apply() or judge(await find(), change, send_at)
        if done:
            return done


def judge(found: ScheduledMail | None, change: Change, send_at: datetime | None = None) -> ScheduledMail | None:
    """Why a change did not happen: the mail, where it is already as it is to be; None where it may happen now.

    Raises Problem 404, 409 or 422.
    """
    if found is None:
        raise Problem(404, "not-found", "No such mail was scheduled.")
    if change is Change.CANCEL and found.state is DelayedState.CANCELLED:
        return found
    if found.state is not DelayedState.PENDING:
        happened = "was cancelled" if found.state is DelayedState.CANCELLED else "has been handed to the senders"
        detail = f"This mail {happened}; it cannot be {change} here any more."
        raise Problem(409, "not-scheduled", detail, id=str(found.id), state=found.state.value)
    if change is Change.RESCHEDULE and found.is_paced:
        detail = "Mail with priority bulk keeps its time. Cancel it, and send it again with another."
        raise Problem(409, "not-scheduled", detail, id=str(found.id), state=found.state.value)
    if send_at and found.expires_at and found.expires_at <= send_at:
        detail = f"must lie before the mail's expires_at, {found.expires_at.isoformat()}"
        raise invalid_content([{"detail": detail, "pointer": "/send_at"}])
    return found if found.due_at == send_at else None


_PACED = {BulkState.PENDING: DelayedState.PENDING, BulkState.CANCELLED: DelayedState.CANCELLED}


def view_paced(mail: FoundMail) -> ScheduledMail:
    """Mail with `priority: bulk`: until its turn has come it waits, too."""
    state = DelayedState.RELEASED if mail.handed_at else _PACED.get(mail.state, DelayedState.RELEASED)
    cancelled_at = mail.ended_at if state is DelayedState.CANCELLED else None
    expires_at = None if mail.handed_at else mail.expires_at  # by then it is what was made of it
    return ScheduledMail(
        mail.id, state, mail.due_at, expires_at, None, None, mail.handed_at, cancelled_at, None, None, is_paced=True
    )
