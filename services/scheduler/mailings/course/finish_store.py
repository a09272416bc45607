"""The statements by which mailings end, and those that tell which of them wait for something (R2)."""

from typing import NamedTuple
from uuid import UUID

from services.scheduler.mailings.course.round_store import HAS_LATE, MAY_END, OPEN, RENEWABLE, Rounds, RoundStore
from services.scheduler.mailings.standing.reasons_store import COUNT_REASONS
from services.scheduler.pacing.lane_locks import lock_lanes
from services.scheduler.pacing.states import OPEN_STATES
from shared.database import Database

_PORTION = 5000
_TOO_LATE = "the mailing was over before it could leave"


class Need(NamedTuple):
    """A job that has something to do for an account."""

    account: str
    job: str


class Tally(NamedTuple):
    """How the mails of an account's mailings that are not over stand."""

    handed_out: int
    in_flight: int
    waiting: int


class FinishStore:
    """Every method raises DatabaseUnavailable and may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fail_unsent(self, account: str) -> int:
        """End mails that were never handed out and whose mailing's time is over; returns how many of them."""
        total, failed = 0, _PORTION
        while failed == _PORTION:
            failed = (await self._database.fetch(_FAIL_UNSENT, account, _PORTION, _TOO_LATE))[0]["failed"]
            total += failed
        return total

    async def finish(self, rounds: RoundStore, each: Rounds) -> bool:
        """Finish a mailing all of whose mails have their end, and none gets another."""
        described = rounds.describe(each.mailing)
        return bool(await self._database.fetch(_FINISH, *described, None, False, each.mailing.id))

    async def end_cancelled(self, account: str) -> list[UUID]:
        """Note that cancelled mailings are over, all of whose mails have their end."""
        return [row["id"] for row in await self._database.fetch(_END_CANCELLED, account)]

    async def count(self, account: str) -> Tally:
        """How mail goes."""
        rows = await self._database.fetch(_COUNT, account)
        return Tally(*rows[0].values())

    async def list_needs(self) -> list[Need]:
        """Which jobs have something to do, of all accounts."""
        return [Need(*row.values()) for row in await self._database.fetch(_NEEDS)]


# What has left before, and was to leave once more, may have been sent: as for all that is given up, no reason is kept.
_FAIL_UNSENT = f"""
    WITH over AS MATERIALIZED (
        SELECT lane FROM scheduler.mailing
        WHERE account = $1 AND state IN ('running', 'paused') AND finished_at IS NULL AND finish_at <= now()),
    known AS MATERIALIZED (
        SELECT mail.id, mail.lane, mail.handed_at IS NULL AS unsent
        FROM over JOIN scheduler.bulk_mail AS mail ON mail.lane = over.lane
        WHERE mail.shelf = 'p' AND (mail.handed_at IS NULL OR mail.expires_at < now() - interval '1 day')
        LIMIT $2 FOR UPDATE OF mail SKIP LOCKED),
    changed AS (
        UPDATE scheduler.bulk_mail AS mail
        SET state = 'expired', reason = CASE WHEN unsent THEN 'expired' END, detail = CASE WHEN unsent THEN $3 END,
            ended_at = now()
        FROM known WHERE mail.id = known.id),{lock_lanes("known")},
    counted AS (
        UPDATE scheduler.bulk_lane AS lane
        SET pending = lane.pending - n, expired = lane.expired + n, changed_at = now()
        FROM (SELECT lane, count(*) AS n FROM known GROUP BY lane) AS moved
        JOIN locked ON locked.id = moved.lane WHERE lane.id = moved.lane)
    SELECT count(*)::int AS failed FROM known
"""
# What its lane counts and what its rows say is of one moment.
_FINISH = f"""
    UPDATE scheduler.mailing AS mailing
    SET state = 'finished', finished_at = now(), changed_at = now(), due_at = now(), reasons = {COUNT_REASONS}
    FROM scheduler.bulk_lane AS lane
    WHERE mailing.id = $7 AND lane.id = mailing.lane AND mailing.state IN ('running', 'paused')
      AND frozen_at IS NOT NULL AND {MAY_END}
      AND NOT EXISTS (SELECT FROM scheduler.bulk_mail AS mail WHERE {RENEWABLE})
    RETURNING mailing.id
"""
_END_CANCELLED = f"""
    UPDATE scheduler.mailing AS mailing
    SET finished_at = now(), changed_at = now(), due_at = now(), reasons = {COUNT_REASONS}
    WHERE account = $1 AND state = 'cancelled' AND finished_at IS NULL
      AND coalesce((SELECT {OPEN} FROM scheduler.bulk_lane AS lane WHERE lane.id = mailing.lane), 0) = 0
    RETURNING id
"""
_COUNT = f"""
    SELECT coalesce(sum({" + ".join(f"lane.{state}" for state in OPEN_STATES if state != "pending")}
                        + lane.sent + lane.failed + lane.expired), 0)::bigint AS handed_out,
           coalesce(sum(lane.queued + lane.deferred + lane.unknown), 0)::bigint AS in_flight,
           coalesce(sum(lane.pending), 0)::bigint AS waiting
    FROM scheduler.mailing AS mailing JOIN scheduler.bulk_lane AS lane ON lane.id = mailing.lane
    WHERE mailing.account = $1 AND mailing.state <> 'draft' AND mailing.finished_at IS NULL
"""
_NEEDS = f"""
    WITH mailing AS MATERIALIZED (
        SELECT * FROM scheduler.mailing WHERE state <> 'draft' AND finished_at IS NULL)
    SELECT account, 'start_mailing' AS job FROM mailing
    WHERE state = 'scheduled' AND coalesce(start_at, now()) <= now()
       OR state IN ('running', 'paused') AND (retry_before IS NOT NULL AND frozen_at IS NOT NULL
          OR frozen_at IS NULL AND coalesce(freeze_until < now(), true))
    UNION
    SELECT mailing.account, 'send_message' FROM mailing
    WHERE state = 'running' AND coalesce(finish_at > now(), true) AND {HAS_LATE}
    UNION
    SELECT mailing.account, 'finish_mailing' FROM mailing
    LEFT JOIN scheduler.bulk_lane AS lane ON lane.id = mailing.lane
    WHERE state = 'cancelled' AND coalesce({OPEN}, 0) = 0
       OR state IN ('running', 'paused') AND frozen_at IS NOT NULL AND {MAY_END}
       OR state IN ('running', 'paused') AND mailing.finish_at <= now() AND lane.waiting AND EXISTS (
          SELECT FROM scheduler.bulk_mail AS mail WHERE mail.lane = lane.id AND mail.shelf = 'p'
          AND mail.handed_at IS NULL)
"""
