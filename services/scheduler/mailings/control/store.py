"""The statements by which mailings are started, stopped and tried again, each a whole with the lane of its mails."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from services.scheduler.mailings.course.round_store import FAILED, is_tried_again
from services.scheduler.mailings.mailing import Mailing
from services.scheduler.mailings.store import read_mailing
from shared.database import Database


class Spared(NamedTuple):
    """How many of those whose mail failed get no other by a retry, by why that is so."""

    unknown: int
    too_large: int
    gone: int


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
        """Those that have failed until now get another round; with `moves` the mailing has another end.

        `unknown`: also those the relay may have. None as well where nobody would get another round.
        """
        return await self._change(_RETRY, mailing_id, finish_at, unknown, moves)

    async def count_spared(self, mailing_id: UUID) -> Spared:
        """Who failed, and would not get another round."""
        rows = await self._database.fetch(_COUNT_SPARED, mailing_id)
        return Spared(*rows[0].values())

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
# What its lane counts spares most of those who have nothing to retry a look at its rows.
_RETRY = _STOP.format(
    change="""
        state = CASE WHEN state = 'finished' THEN 'running' ELSE state END, finished_at = NULL,
        finish_at = CASE WHEN $4::bool THEN $2::timestamptz ELSE finish_at END, retry_before = now(),
        retry_unknown = $3, reasons = NULL, revision = revision + 1, told_at = NULL, due_at = now(),
        lease_token = NULL, lease_until = NULL
    """,
    where=f"""
        state IN ('running', 'paused', 'finished') AND frozen_at IS NOT NULL AND recipients_deleted_at IS NULL
        AND EXISTS (SELECT FROM scheduler.bulk_lane AS lane WHERE lane.id = mailing.lane AND failed + expired > 0)
        AND EXISTS (
            SELECT FROM scheduler.bulk_mail AS mail
            WHERE mail.lane = mailing.lane AND {FAILED} AND mail.own IS NOT NULL AND {is_tried_again("$3")})
    """,
    lane="paused = changed.state = 'paused', finish_at = changed.finish_at",
)
_COUNT_SPARED = f"""
    SELECT count(*) FILTER (WHERE own IS NOT NULL AND could_be) AS unknown,
           count(*) FILTER (WHERE own IS NOT NULL AND NOT could_be) AS too_large,
           count(*) FILTER (WHERE own IS NULL) AS gone
    FROM (
        SELECT mail.own, {is_tried_again("true")} AS could_be
        FROM scheduler.mailing AS mailing JOIN scheduler.bulk_mail AS mail ON mail.lane = mailing.lane
        WHERE mailing.id = $1 AND {FAILED}) AS failed
"""
