"""The SQL statements behind `/v1/scheduled`; those for mail with `priority: bulk` are pacing's.

Raises DatabaseUnavailable.
"""

from datetime import datetime
from uuid import UUID

import asyncpg

from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.waiting.delayed import DelayedState
from services.scheduler.waiting.views import ScheduledMail, WaitingList, view_paced
from shared.database import Database

_COLUMNS = """
    id, state, due_at, expires_at, created_at, rescheduled_at, released_at, cancelled_at, bulk_id, mail_count
"""
_SOONEST = "ORDER BY due_at, id LIMIT $5"
_OF_STATE = f"""
    SELECT {_COLUMNS} FROM scheduler.delayed
    WHERE account = $1 AND state = '{{state}}' AND (due_at, id) > ($2, $3) AND due_at < $4 {_SOONEST}
"""
_WAITING = " UNION ALL ".join(
    f"({_OF_STATE.format(state=state.value)})" for state in (DelayedState.PENDING, DelayedState.RELEASING)
)
STATEMENTS: dict[DelayedState | None, str] = {state: _OF_STATE.format(state=state.value) for state in DelayedState}
STATEMENTS[None] = f"SELECT {_COLUMNS} FROM ({_WAITING}) AS waiting {_SOONEST}"
"""By state, None: what still waits; $1 account, $2 and $3 the position that the page comes after, $4 the time that all
lie before, $5 its length. Each reads a range of the index delayed_listed, as many rows as are shown."""

_FIND = f"SELECT {_COLUMNS} FROM scheduler.delayed WHERE id = $1 AND account = $2"
# What happened is told from a row of its own that is written with it: whatever dies in between, it is told.
_RESCHEDULE = f"""
    WITH moved AS (
        UPDATE scheduler.delayed SET due_at = $3, rescheduled_at = now()
        WHERE id = $1 AND account = $2 AND state = 'pending' AND due_at <> $3
          AND (expires_at IS NULL OR expires_at > $3)
        RETURNING {_COLUMNS}),
    told AS (
        INSERT INTO scheduler.announcement (mail_id, kind, at, send_at)
        SELECT id, 'rescheduled', rescheduled_at, due_at FROM moved)
    SELECT {_COLUMNS} FROM moved
"""
_CANCEL = f"""
    WITH cancelled AS (
        UPDATE scheduler.delayed SET state = 'cancelled', cancelled_at = now()
        WHERE id = $1 AND account = $2 AND state = 'pending'
        RETURNING {_COLUMNS}),
    told AS (
        INSERT INTO scheduler.announcement (mail_id, kind, at) SELECT id, 'cancelled', cancelled_at FROM cancelled)
    SELECT {_COLUMNS} FROM cancelled
"""


class WaitingStore:
    """What the API shows and changes. `lists` plans as lists are to be (LIST_PLANNING)."""

    def __init__(self, database: Database, lists: Database) -> None:
        self._database = database
        self._lists = lists
        self._bulk = BulkStore(database)

    async def read_page(self, wanted: WaitingList, after: tuple[datetime, UUID], limit: int) -> list[ScheduledMail]:
        """Up to `limit` mails of a list, those that come after a position."""
        rows = await self._lists.fetch(STATEMENTS[wanted.state], wanted.account, *after, wanted.until, limit)
        return [_read(row) for row in rows]

    async def find(self, mail_id: UUID, account: str) -> ScheduledMail | None:
        """One mail of this account, None where the scheduler never held it."""
        found = await self._find(_FIND, mail_id, account)
        if found is None and (paced := await self._bulk.find(mail_id, account)):
            return view_paced(paced)
        return found

    async def reschedule(self, mail_id: UUID, account: str, send_at: datetime) -> ScheduledMail | None:
        """Move a mail that waits; None where it does not, would have expired by then, or is due at that time anyway."""
        return await self._find(_RESCHEDULE, mail_id, account, send_at)

    async def cancel(self, mail_id: UUID, account: str) -> ScheduledMail | None:
        """Rule a mail's release out; None where it does not wait (any more)."""
        cancelled = await self._find(_CANCEL, mail_id, account)
        if cancelled is None and await self._bulk.cancel_mail(mail_id, account):
            return await self.find(mail_id, account)
        return cancelled

    async def _find(self, statement: str, *values: object) -> ScheduledMail | None:
        rows = await self._database.fetch(statement, *values)
        return _read(rows[0]) if rows else None


def _read(row: asyncpg.Record) -> ScheduledMail:
    """asyncpg has a class of its own for ids, which no JSON encoder knows."""
    bulk_id = row["bulk_id"]
    return ScheduledMail(
        UUID(int=row["id"].int),
        DelayedState(row["state"]),
        row["due_at"],
        row["expires_at"],
        row["created_at"],
        row["rescheduled_at"],
        row["released_at"],
        row["cancelled_at"],
        UUID(int=bulk_id.int) if bulk_id else None,
        row["mail_count"],
    )
