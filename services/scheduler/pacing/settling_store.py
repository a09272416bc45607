"""The statements by which bulk mail ends, or leaves the window, and by which old rows are deleted (R2).

The window's row is locked first, then lanes, then mails, as store.py does.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from services.scheduler.pacing.bulk_store import CANCEL_LANE
from services.scheduler.pacing.lane_locks import lock_lanes
from services.scheduler.pacing.states import ENDS, BulkState
from shared.cleaning import delete_chosen
from shared.database import Database


class Result(NamedTuple):
    """What became of one mail, as its newest result says; `reason` and `detail` of a failure."""

    id: str
    state: BulkState
    attempt: int
    reason: str | None = None
    detail: str | None = None


class SettlingStore:
    """Every method raises DatabaseUnavailable and may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def settle(self, results: Sequence[Result]) -> int:
        """Note results, one for each mail, in the order of ids; returns how many mails they changed.

        A mail leaves the window with its first result. Results that say nothing new change nothing.
        """
        if not results:
            return 0
        # Texts, not arrays: asyncpg asks of every element of an array whether it is one itself.
        ids, states, attempts, _, _ = zip(*results, strict=True)
        given = ",".join(ids), ",".join(states), ",".join(map(str, attempts))
        failed = [each for each in results if each.reason]
        if not failed:
            rows = await self._database.fetch(_SETTLE, *given)
        else:
            told = [each.id for each in failed], [each.reason for each in failed], [each.detail for each in failed]
            rows = await self._database.fetch(_SETTLE_WITH_REASONS, *given, *told)
        return int(rows[0]["changed"])

    async def cancel_lanes(self, limit: int) -> int:
        """Cancel up to `limit` mails of lanes that have been cancelled; returns how many."""
        rows = await self._database.fetch(CANCEL_LANE, limit)
        return int(rows[0]["cancelled"])

    async def release_stale(self, after: timedelta) -> int:
        """Let mails leave the window that had no result while those that left `after` them in their lane had.

        They wait at a sender (their tag is paused), or their result was published before they became bulk.
        """
        rows = await self._database.fetch(_RELEASE_STALE, after)
        return int(rows[0]["changed"])

    async def note_oldest(self) -> None:
        """Note of each lane since when the mail has been on its way that left first: what is older has landed."""
        await self._database.fetch(_NOTE_OLDEST)

    async def give_up(self, after: timedelta, limit: int) -> int:
        """End up to `limit` mails that left and expired longer than `after` ago and of which nothing was heard."""
        rows = await self._database.fetch(_GIVE_UP, after, limit)
        return int(rows[0]["changed"])

    async def delete_ended(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` mails that ended longer ago than `kept`; those of mailings there are stay."""
        chosen = f"""
            SELECT mail.ctid FROM scheduler.bulk_lane AS lane CROSS JOIN LATERAL (
                (SELECT ctid FROM scheduler.bulk_mail WHERE bulk_mail.lane = lane.id
                 AND handed_at < now() - $1::interval AND ended_at < now() - $1::interval LIMIT $2)
                UNION ALL
                (SELECT ctid FROM scheduler.bulk_mail WHERE bulk_mail.lane = lane.id
                 AND shelf = 'u' AND handed_at IS NULL AND ended_at < now() - $1::interval LIMIT $2)) AS mail
            WHERE lane.created_at < now() - $1::interval AND {_NO_MAILING} LIMIT $2
        """
        return await delete_chosen(self._database, "scheduler.bulk_mail", chosen, kept, limit)

    async def delete_contents(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` contents not used for longer than `kept`, and that no mail waits to leave with.

        A mailing's stays while those that failed may be tried again.
        """
        chosen = """
            SELECT ctid FROM scheduler.bulk_content AS content WHERE used_at < now() - $1::interval
            AND NOT EXISTS (SELECT FROM scheduler.bulk_mail AS mail WHERE mail.shelf = 'p'
                            AND mail.lane = content.lane AND mail.content = content.id)
            AND NOT EXISTS (SELECT FROM scheduler.bulk_lane AS lane WHERE lane.id = content.lane AND lane.flying)
            AND NOT EXISTS (SELECT FROM scheduler.mailing
                            WHERE mailing.lane = content.lane AND recipients_deleted_at IS NULL)
            ORDER BY used_at LIMIT $2
        """
        return await delete_chosen(self._database, "scheduler.bulk_content", chosen, kept, limit)

    async def delete_lanes(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` lanes in which nothing has changed for `kept`, but no loose one and no mailing's."""
        chosen = f"""
            SELECT ctid FROM scheduler.bulk_lane AS lane
            WHERE kind <> 'loose' AND created_at < now() - $1::interval AND changed_at < now() - $1::interval
              AND pending + queued + deferred + unknown = 0 AND {_NO_MAILING}
              AND NOT EXISTS (SELECT FROM scheduler.bulk_mail AS mail
                              WHERE mail.lane = lane.id AND mail.handed_at IS NOT NULL)
              AND NOT EXISTS (SELECT FROM scheduler.bulk_mail AS mail WHERE mail.lane = lane.id AND mail.shelf = 'u')
            ORDER BY created_at LIMIT $2
        """
        return await delete_chosen(self._database, "scheduler.bulk_lane", chosen, kept, limit)


# A mailing's lane is its counts, and its mails are kept for longer (services/scheduler/mailings).
_NO_MAILING = "NOT EXISTS (SELECT FROM scheduler.mailing WHERE mailing.lane = lane.id)"
_STATES = ", ".join(f"{state} = lane.{state} + moved.{state}" for state in BulkState)
_MOVED = ", ".join(
    f"count(*) FILTER (WHERE next = '{state}') - count(*) FILTER (WHERE state = '{state}') AS {state}"
    for state in BulkState
)
_IS_END = "IN ({})".format(", ".join(f"'{state}'" for state in ENDS))
# `also` is a condition that keeps the planner from reading the whole table for few rows, where it takes them for many.
# `known` (id, lane, state, handed_at, next, attempt) becomes what it is next. `heard` says whether a result said so.
_MOVE = """
    changed AS (
        UPDATE scheduler.bulk_mail AS mail
        SET state = known.next, attempt = known.attempt,
            ended_at = CASE WHEN known.next {is_end} THEN now() END,
            handed_at = CASE WHEN known.next = 'sent' THEN coalesce(mail.handed_at, now()) ELSE mail.handed_at END,
            own = CASE WHEN known.next <> 'sent' THEN mail.own END{reasons}
        FROM known{told} WHERE mail.id = known.id{also}),{locked},
    counted AS (
        UPDATE scheduler.bulk_lane AS lane SET {states}, changed_at = now(),
            result_at = CASE WHEN {heard} THEN now() ELSE lane.result_at END
        FROM (SELECT lane, {moved} FROM known GROUP BY lane) AS moved JOIN locked ON locked.id = moved.lane
        WHERE lane.id = moved.lane),
    returned AS (
        UPDATE scheduler.bulk_window AS room
        SET in_flight = room.in_flight - first.n, results = room.results + CASE WHEN {heard} THEN first.n ELSE 0 END,
            fastest_s = CASE WHEN {heard} THEN least(room.fastest_s, first.fastest_s) ELSE room.fastest_s END
        FROM (SELECT count(*)::int AS n, extract(epoch FROM now() - max(handed_at))::float8 AS fastest_s
              FROM known WHERE state = 'queued') AS first
        WHERE first.n > 0)
    SELECT count(*) AS changed FROM known
"""


def _write_move(*, heard: str, also: str = "", reasons: str = "", told: str = "") -> str:
    fixed = {"is_end": _IS_END, "states": _STATES, "moved": _MOVED, "locked": lock_lanes("known")}
    return _MOVE.format(**fixed, heard=heard, also=also, reasons=reasons, told=told)


# Of whoever was erased while his mail was with the senders no words are kept (contacts/erasing_store.py).
_REASONS = """, reason = coalesce(told.reason, mail.reason),
            detail = CASE WHEN mail.own IS NOT NULL THEN coalesce(told.detail, mail.detail) END"""
_TOLD = """
        LEFT JOIN unnest($4::uuid[], $5::text[], $6::text[]) AS told(id, reason, detail) ON told.id = known.id
"""
# The window is named by its key: its table is never analysed, and would count as 90 rows. An array of the ids beside
# the join, which would do as well, is sorted again for each row that is looked up: 300 rows took 66 ms.
_HEARD = """
    WITH room AS MATERIALIZED (SELECT id FROM scheduler.bulk_window WHERE id = 1 FOR UPDATE),
    known AS MATERIALIZED (
        SELECT mail.id, mail.lane, mail.state, mail.handed_at, given.next, given.attempt
        FROM room CROSS JOIN unnest(string_to_array($1, ',')::uuid[], string_to_array($2, ','),
                                    string_to_array($3, ',')::int[]) AS given(id, next, attempt)
        CROSS JOIN LATERAL (
            SELECT id, lane, state, handed_at FROM scheduler.bulk_mail AS mail
            WHERE room.id = 1 AND mail.id = given.id AND (mail.state IN ('pending', 'queued') OR (
                  mail.state IN ('deferred', 'unknown') AND (
                  given.next {is_end} OR (given.attempt, given.next) > (mail.attempt, mail.state))))
            LIMIT 1 FOR UPDATE) AS mail),
"""
_SETTLE = _HEARD.format(is_end=_IS_END) + _write_move(heard="true")
_SETTLE_WITH_REASONS = _HEARD.format(is_end=_IS_END) + _write_move(heard="true", reasons=_REASONS, told=_TOLD)
_BY_ARRAY = " AND mail.id = ANY(ARRAY(SELECT id FROM known))"
_RELEASE_STALE = f"""
    WITH room AS MATERIALIZED (SELECT id FROM scheduler.bulk_window FOR UPDATE),
    known AS MATERIALIZED (
        SELECT mail.id, mail.lane, mail.state, mail.handed_at, 'deferred' AS next, mail.attempt
        FROM room CROSS JOIN scheduler.bulk_lane AS lane
        JOIN scheduler.bulk_mail AS mail ON mail.lane = lane.id AND mail.handed_at >= lane.flying_since
        WHERE lane.flying AND mail.state = 'queued' AND mail.handed_at < now() - $1::interval
          AND lane.result_at > mail.handed_at + $1::interval
        ORDER BY mail.id FOR UPDATE OF mail),
    {_write_move(heard="false", also=_BY_ARRAY)}
"""
# Minutes ago at the latest: a hand-out is dated by its beginning, and may not be seen yet. Never waits for a lane, for
# whoever holds it may wait for another of these.
_NOTE_OLDEST = """
    WITH oldest AS MATERIALIZED (
        SELECT id, least(now() - interval '2 min', (
            SELECT mail.handed_at FROM scheduler.bulk_mail AS mail
            WHERE mail.lane = lane.id AND mail.handed_at >= lane.flying_since AND mail.state = 'queued'
            ORDER BY mail.handed_at LIMIT 1)) AS since
        FROM scheduler.bulk_lane AS lane WHERE flying AND flying_since < now() - interval '3 min'),
    free AS MATERIALIZED (
        SELECT id FROM scheduler.bulk_lane WHERE id IN (SELECT id FROM oldest) FOR UPDATE SKIP LOCKED)
    UPDATE scheduler.bulk_lane AS lane SET flying_since = oldest.since
    FROM oldest JOIN free USING (id) WHERE lane.id = oldest.id
"""
# Nobody knows why it had no end, whatever it was put off for before.
_UNTOLD = ", reason = CASE mail.reason WHEN 'unknown' THEN mail.reason END"
_GIVE_UP = f"""
    WITH room AS MATERIALIZED (SELECT id FROM scheduler.bulk_window FOR UPDATE),
    known AS MATERIALIZED (
        SELECT mail.id, mail.lane, mail.state, mail.handed_at, 'expired' AS next, mail.attempt
        FROM room CROSS JOIN scheduler.bulk_mail AS mail
        WHERE mail.state IN ('queued', 'deferred', 'unknown') AND mail.id = ANY(ARRAY(
            SELECT mail.id FROM scheduler.bulk_lane AS lane
            JOIN scheduler.bulk_mail AS mail ON mail.lane = lane.id AND mail.handed_at >= lane.flying_since
            WHERE lane.flying AND mail.state = 'queued'
              AND mail.handed_at < now() - $1::interval AND mail.expires_at < now() - $1::interval
            UNION ALL SELECT id FROM scheduler.bulk_mail WHERE shelf = 'o' AND expires_at < now() - $1::interval
            LIMIT $2))
        ORDER BY mail.id FOR UPDATE OF mail),
    {_write_move(heard="false", also=_BY_ARRAY, reasons=_UNTOLD)}
"""
