"""The statements by which mailings are started, stopped and tried again, each a whole with the lane of its mails."""

from datetime import datetime
from typing import Any
from uuid import UUID

from services.scheduler.mailings.mailing import Mailing
from services.scheduler.mailings.store import read_mailing
from shared.database import Database


class ControlStore:
    """Every method raises DatabaseUnavailable; None: the mailing does not stand where this can be done."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(self, mailing: Mailing) -> Mailing | None:
        """Let it run once its time has come, unless it has been changed since it was read."""
        return await self._change(_START, mailing.id, mailing.revision)

    async def pause(self, mailing_id: UUID) -> Mailing | None:
        """Nothing more of it leaves."""
        return await self._change(_PAUSE, mailing_id)

    async def resume(self, mailing_id: UUID) -> Mailing | None:
        """It goes on."""
        return await self._change(_RESUME, mailing_id)

    async def cancel(self, mailing_id: UUID) -> Mailing | None:
        """What is pending will not be sent."""
        return await self._change(_CANCEL, mailing_id)

    async def retry(
        self, mailing_id: UUID, finish_at: datetime | None, *, moves: bool, unknown: bool
    ) -> Mailing | None:
        """Those that have failed until now get another round; with `moves` the mailing has another end."""
        return await self._change(_RETRY, mailing_id, finish_at, unknown, moves)

    async def _change(self, statement: str, *args: Any) -> Mailing | None:
        rows = await self._database.fetch(statement, *args)
        return read_mailing(rows[0]) if rows else None


_START = """
    UPDATE scheduler.mailing SET state = 'scheduled', changed_at = now()
    WHERE id = $1 AND revision = $2 AND state = 'draft' RETURNING *
"""
_STOP = """
    WITH changed AS (
        UPDATE scheduler.mailing SET {change}, changed_at = now() WHERE id = $1 AND {where} RETURNING *),
    told AS (
        UPDATE scheduler.bulk_lane AS lane SET {lane}, changed_at = now() FROM changed WHERE lane.id = changed.lane)
    SELECT * FROM changed
"""
_PAUSE = _STOP.format(change="state = 'paused'", where="state = 'running'", lane="paused = true")
_RESUME = _STOP.format(change="state = 'running', due_at = now()", where="state = 'paused'", lane="paused = false")
_CANCEL = _STOP.format(
    change="state = 'cancelled', finished_at = CASE WHEN state = 'scheduled' THEN now() END, due_at = now()",
    where="state IN ('scheduled', 'running', 'paused')",
    lane="cancelled_at = coalesce(lane.cancelled_at, now())",
)
_RETRY = _STOP.format(
    change="""
        state = CASE WHEN state = 'finished' THEN 'running' ELSE state END, finished_at = NULL,
        finish_at = CASE WHEN $4::bool THEN $2::timestamptz ELSE finish_at END, retry_before = now(),
        retry_unknown = $3, reasons = NULL, revision = revision + 1, told_at = NULL, due_at = now(),
        lease_token = NULL, lease_until = NULL
    """,
    where="""
        state IN ('running', 'paused', 'finished') AND frozen_at IS NOT NULL AND recipients_deleted_at IS NULL
        AND EXISTS (SELECT FROM scheduler.bulk_lane AS lane WHERE lane.id = mailing.lane AND failed + expired > 0)
    """,
    lane="paused = changed.state = 'paused', finish_at = changed.finish_at",
)
