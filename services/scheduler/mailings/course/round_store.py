"""The statements by which mail of a mailing gets another turn: other hours, another round, or the same once more (R2).

A new round gives a recipient's row another email id, so a row is found by the id it had: whoever comes second changes
nothing, and so do late results of the mail before. What nothing was heard of goes out again under its id, and the
senders' ledger knows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from services.scheduler.mailings.mailing import Mailing
from services.scheduler.mailings.store import read_mailing
from services.scheduler.pacing.lane_locks import lock_lanes
from services.scheduler.pacing.states import OPEN_STATES
from shared.database import Database
from shared.states import FailureReason

TRANSIENT = (FailureReason.DEFERRED, FailureReason.RELAY_UNAVAILABLE, FailureReason.EXPIRED)
MOST_ROUNDS = 7
"""By itself, of a mailing that has no end."""
LISTENED_EVERY = timedelta(minutes=1)
_PORTION = 1000


@dataclass(frozen=True, slots=True)
class Rounds:
    """A mailing, at PostgreSQL's time `now`, some of whose mails may get another turn.

    `retry_before`: somebody has asked, for those that failed before; `unknown`: also for those the relay may have.
    """

    mailing: Mailing
    retry_before: datetime | None
    unknown: bool
    now: datetime


class Failed(NamedTuple):
    """A recipient whose mail has failed."""

    id: UUID
    recipient: UUID
    round: int
    zone: str | None
    own: bytes


class Renewed(NamedTuple):
    """His next mail."""

    old_id: UUID
    id: UUID
    due_at: datetime
    expires_at: datetime | None
    own: bytes


class RoundStore:
    """Every method raises DatabaseUnavailable and may be repeated. `repeat_failed`: also what nobody's hours ended."""

    def __init__(self, database: Database, *, repeat_failed: bool) -> None:
        self._database = database
        self._repeat_failed = repeat_failed

    async def list_open(self, account: str) -> list[Rounds]:
        """The account's mailings some of whose mails may get another round."""
        return await self._list(account, _MAY_RENEW)

    async def list_ending(self, account: str) -> list[Rounds]:
        """The account's mailings that are over, unless some of their mails get another round."""
        return await self._list(account, MAY_END)

    async def list_waiting(self, account: str) -> list[Rounds]:
        """The account's mailings that have mail whose time was over before its turn came, and that are not over."""
        return await self._list(account, f"coalesce(mailing.finish_at > now(), true) AND {HAS_LATE}", frozen="true")

    async def _list(self, account: str, condition: str, frozen: str = "frozen_at IS NOT NULL") -> list[Rounds]:
        rows = await self._database.fetch(_LIST.format(condition=condition, frozen=frozen), account)
        return [Rounds(read_mailing(row), row["retry_before"], row["retry_unknown"], row["now"]) for row in rows]

    async def list_failed(self, rounds: Rounds) -> list[Failed]:
        """Some of those who get one."""
        rows = await self._database.fetch(
            f"""
            SELECT id, recipient, round, zone, own FROM scheduler.bulk_mail AS mail
            WHERE {RENEWABLE} LIMIT {_PORTION}
            """,
            *self.describe(rounds.mailing),
            rounds.retry_before,
            rounds.unknown,
        )
        return [Failed(*row.values()) for row in rows]

    def describe(self, mailing: Mailing) -> tuple[object, ...]:
        """The first values of RENEWABLE."""
        definition = mailing.definition
        return mailing.lane, definition.hours is not None, self._repeat_failed, definition.finish_at

    async def renew(self, mailing: Mailing, content: UUID, renewed: Sequence[Renewed]) -> int:
        """Give recipients their next mails, of this content; returns how many got one."""
        rows = await self._database.fetch(_RENEW, mailing.id, content, *zip(*renewed, strict=True))
        return int(rows[0]["renewed"])

    async def close(self, ids: Sequence[UUID]) -> None:
        """There is no time left for the next mails of these: what they have is their end."""
        await self._database.fetch(
            """
            UPDATE scheduler.bulk_mail SET expires_at = 'infinity', ended_at = now()
            WHERE id = ANY($1::uuid[]) AND state IN ('failed', 'expired')
            """,
            sorted(ids),
        )

    async def end_retry(self, rounds: Rounds) -> None:
        """All have been renewed for whom somebody asked, unless somebody has asked again."""
        await self._database.fetch(
            "UPDATE scheduler.mailing SET retry_before = NULL WHERE id = $1 AND retry_before = $2",
            rounds.mailing.id,
            rounds.retry_before,
        )

    async def list_late_zones(self, mailing: Mailing, limit: int) -> tuple[list[str | None], datetime | None]:
        """The zones of the first mails whose hours have ended before their turn came, and PostgreSQL's time."""
        rows = await self._database.fetch(
            f"SELECT DISTINCT zone, now() AS now FROM ({_LATE} LIMIT $2) AS late", mailing.lane, limit
        )
        return [row["zone"] for row in rows], rows[0]["now"] if rows else None

    async def move(
        self, mailing: Mailing, turns: Mapping[str | None, tuple[datetime, datetime | None]], limit: int
    ) -> int:
        """Give the mails of these zones their next hours, under the same ids: nobody has heard of them."""
        rows = await self._database.fetch(
            _MOVE,
            mailing.lane,
            limit,
            list(turns),
            [due_at for due_at, _ in turns.values()],
            [expires_at for _, expires_at in turns.values()],
        )
        return int(rows[0]["moved"])

    async def listen(self, patience: timedelta = LISTENED_EVERY) -> None:
        """Note whether results come back, and since when without a gap; one comes within `patience`."""
        await self._database.fetch(_LISTEN, patience)

    async def repeat(self, account: str, timeout: timedelta) -> int:
        """Hand out again what nothing was heard of for `timeout`, the next time twice as long; returns how many."""
        rows = await self._database.fetch(_REPEAT, account, timeout)
        return int(rows[0]["repeated"])


FAILED = "mail.shelf = 'u' AND mail.recipient IS NOT NULL AND mail.state IN ('failed', 'expired')"
"""A mail that failed, as it is found by an index."""


def is_tried_again(unknown: str) -> str:
    """Whether a retry takes a mail that failed; `unknown`: whether somebody wants those the relay may have, too.

    They go once more only if somebody says so; so does what nothing was ever heard of, and was given up. What was too
    large to leave still is.
    """
    too_large = f"mail.handed_at IS NULL AND coalesce(mail.reason = '{FailureReason.INVALID_REQUEST}', false)"
    return f"((coalesce(mail.reason, 'unknown') <> 'unknown' OR {unknown}::bool) AND NOT ({too_large}))"


OPEN = " + ".join(f"lane.{state}" for state in OPEN_STATES)
MAY_END = f"{OPEN} = 0 AND mailing.retry_before IS NULL"
_MAY_RENEW = """
    coalesce(mailing.finish_at > now(), true) AND lane.failed + lane.expired > 0 OR retry_before IS NOT NULL
"""
_LIST = """
    SELECT mailing.*, now() AS now FROM scheduler.mailing AS mailing
    JOIN scheduler.bulk_lane AS lane ON lane.id = mailing.lane
    WHERE mailing.account = $1 AND mailing.state IN ('running', 'paused') AND mailing.finished_at IS NULL
      AND {frozen} AND ({condition})
    ORDER BY mailing.id
"""
# $1 lane, $2 whether it has hours, $3 repeat_failed, $4 finish_at, $5 retry_before, $6 unknown. What expired with the
# mailing's end has no other hours. Of whoever was erased there is nothing left to renew (`own`).
RENEWABLE = f"""
    mail.lane = $1 AND {FAILED} AND mail.own IS NOT NULL AND coalesce(now() < $4::timestamptz, true) AND (
        (mail.handed_at IS NOT NULL
         AND (($2::bool AND mail.state = 'expired' AND mail.reason = 'expired')
              OR ($3::bool AND mail.reason IN ({", ".join(f"'{each}'" for each in TRANSIENT)})))
         AND CASE WHEN mail.state = 'expired' AND $4 IS NOT NULL THEN coalesce(mail.expires_at < $4, true)
                  ELSE mail.round < {MOST_ROUNDS} AND coalesce(mail.expires_at <= $4, true) END)
        OR (mail.ended_at < $5::timestamptz AND {is_tried_again("$6")}))
"""
# The mailing's row is held, so that it is not finished meanwhile.
_RENEW = """
    WITH held AS MATERIALIZED (
        SELECT id, lane FROM scheduler.mailing
        WHERE id = $1 AND state IN ('running', 'paused') AND finished_at IS NULL FOR SHARE),
    known AS MATERIALIZED (
        SELECT mail.id, mail.state, given.new_id, given.due_at, given.expires_at, given.own
        FROM held CROSS JOIN unnest($3::uuid[], $4::uuid[], $5::timestamptz[], $6::timestamptz[], $7::bytea[])
             AS given(id, new_id, due_at, expires_at, own)
        JOIN scheduler.bulk_mail AS mail ON mail.id = given.id
        WHERE mail.lane = held.lane AND mail.state IN ('failed', 'expired') AND mail.own IS NOT NULL
        ORDER BY mail.id FOR UPDATE OF mail),
    changed AS (
        UPDATE scheduler.bulk_mail AS mail
        SET id = known.new_id, round = mail.round + 1, state = 'pending', due_at = known.due_at,
            expires_at = known.expires_at, content = $2, own = known.own, attempt = 0, repeats = 0, handed_at = NULL,
            ended_at = NULL, reason = NULL, detail = NULL
        FROM known WHERE mail.id = known.id),
    counted AS (
        UPDATE scheduler.bulk_lane AS lane
        SET pending = lane.pending + moved.n, failed = lane.failed - moved.failed, changed_at = now(),
            expired = lane.expired - moved.expired
        FROM held, (SELECT count(*) AS n, count(*) FILTER (WHERE state = 'failed') AS failed,
                           count(*) FILTER (WHERE state = 'expired') AS expired FROM known) AS moved
        WHERE lane.id = held.lane)
    SELECT count(*) AS renewed FROM known
"""
_IS_LATE = "mail.recipient IS NOT NULL AND mail.handed_at IS NULL AND mail.expires_at <= now()"
# As many as are looked at: the others come to the front, too.
HAS_LATE = f"""
    EXISTS (SELECT FROM (
        SELECT * FROM scheduler.bulk_mail AS first WHERE first.lane = mailing.lane AND first.shelf = 'p'
        ORDER BY due_at, number LIMIT 100) AS mail WHERE {_IS_LATE})
"""
_LATE = f"""
    SELECT id, zone FROM scheduler.bulk_mail AS mail
    WHERE mail.lane = $1 AND mail.shelf = 'p' AND {_IS_LATE} ORDER BY due_at, number
"""
_MOVE = f"""
    WITH late AS MATERIALIZED ({_LATE} LIMIT $2 FOR UPDATE SKIP LOCKED),
    moved AS (
        UPDATE scheduler.bulk_mail AS mail SET due_at = given.due_at, expires_at = given.expires_at
        FROM late JOIN unnest($3::text[], $4::timestamptz[], $5::timestamptz[]) AS given(zone, due_at, expires_at)
             ON given.zone IS NOT DISTINCT FROM late.zone
        WHERE mail.id = late.id RETURNING mail.id)
    SELECT count(*) AS moved FROM moved
"""
# Results come back as long as none is missing of what left after the last of them: a silence in which nothing was to
# be heard says nothing. After a gap, or when nobody has listened for minutes, the count begins anew.
_LISTEN = """
    WITH heard AS (SELECT max(result_at) AS last FROM scheduler.bulk_lane),
    missed AS (
        SELECT EXISTS (
            SELECT FROM heard CROSS JOIN scheduler.bulk_lane AS lane
            JOIN scheduler.bulk_mail AS mail ON mail.lane = lane.id AND mail.handed_at >= lane.flying_since
            WHERE lane.flying AND mail.state = 'queued' AND mail.handed_at < now() - $1::interval
              AND mail.handed_at > coalesce(heard.last, '-infinity')) AS is_so)
    UPDATE scheduler.bulk_window
    SET heard_since = CASE WHEN missed.is_so THEN NULL WHEN heard_at < now() - interval '5 min' THEN now()
                           ELSE coalesce(heard_since, now()) END,
        heard_at = now()
    FROM missed
"""
# What a sender said it holds (attempt above 0) is his; one that was only taken out of the window was never heard of.
# Where nothing was heard for as long, be it that nothing was to be heard, one finds out whether results come back.
_REPEAT = f"""
    WITH room AS MATERIALIZED (SELECT heard_since FROM scheduler.bulk_window FOR UPDATE),
    heard AS MATERIALIZED (
        SELECT coalesce(max(result_at) > now() - $2::interval, false) AS lately FROM scheduler.bulk_lane),
    running AS MATERIALIZED (
        SELECT lane.id, lane.flying_since FROM scheduler.mailing AS mailing
        JOIN scheduler.bulk_lane AS lane ON lane.id = mailing.lane
        WHERE mailing.account = $1 AND mailing.state = 'running' AND mailing.finished_at IS NULL AND NOT lane.paused
          AND lane.cancelled_at IS NULL AND lane.queued + lane.deferred > 0),
    known AS MATERIALIZED (
        SELECT mail.id, mail.lane, mail.state FROM room CROSS JOIN scheduler.bulk_mail AS mail
        WHERE mail.id = ANY(ARRAY(
            SELECT mail.id FROM running JOIN scheduler.bulk_mail AS mail
                   ON mail.lane = running.id AND mail.handed_at >= running.flying_since
            WHERE mail.state = 'queued' AND mail.handed_at < now() - $2::interval
            UNION ALL
            SELECT mail.id FROM running JOIN scheduler.bulk_mail AS mail ON mail.lane = running.id
            WHERE mail.shelf = 'o' AND mail.state = 'deferred' AND mail.attempt = 0))
          AND (mail.state = 'queued' OR mail.state = 'deferred' AND mail.attempt = 0)
          AND mail.recipient IS NOT NULL AND mail.own IS NOT NULL
          AND coalesce(mail.expires_at > now() + interval '1 min', true)
          AND greatest(mail.handed_at, room.heard_since) < now() - $2::interval * power(2, least(mail.repeats, 10))
          AND room.heard_since IS NOT NULL
        ORDER BY mail.id LIMIT (SELECT CASE WHEN lately THEN {_PORTION} ELSE 1 END FROM heard)
        FOR UPDATE OF mail SKIP LOCKED),
    changed AS (
        UPDATE scheduler.bulk_mail AS mail SET state = 'pending', repeats = mail.repeats + 1
        FROM known WHERE mail.id = known.id),{lock_lanes("known")},
    counted AS (
        UPDATE scheduler.bulk_lane AS lane
        SET pending = lane.pending + moved.n, queued = lane.queued - moved.queued, changed_at = now(),
            deferred = lane.deferred - (moved.n - moved.queued)
        FROM (SELECT lane, count(*) AS n, count(*) FILTER (WHERE state = 'queued') AS queued FROM known GROUP BY lane)
             AS moved JOIN locked ON locked.id = moved.lane WHERE lane.id = moved.lane),
    returned AS (
        UPDATE scheduler.bulk_window AS room SET in_flight = room.in_flight - freed.n
        FROM (SELECT count(*)::int AS n FROM known WHERE state = 'queued') AS freed WHERE freed.n > 0)
    SELECT count(*) AS repeated FROM known
"""
