"""The statements on bulk mail for whoever brings it in, watches it, or holds it: rows and lanes (R2).

How it leaves is in store.py, how it ends in settling_store.py. A lane's counters change in the statements that
change its rows.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from services.scheduler.pacing.lane_locks import lock_lanes
from services.scheduler.pacing.lanes import LaneKey, LaneKind, LaneReport
from services.scheduler.pacing.rows import BulkRow, share_contents
from services.scheduler.pacing.states import BulkState
from shared.database import Database

_LANES_KNOWN, _LANE_KNOWN_S = 10_000, 600  # far less than a lane without mail is kept
_LANE = f"id, account, kind, name, paused, cancelled_at, created_at, changed_at, {', '.join(BulkState)}"
_THIS_LANE = "account = $1 AND kind = $2 AND name = $3"


@dataclass(frozen=True, slots=True)
class FoundMail:
    """What an account may know of one bulk mail."""

    id: UUID
    state: BulkState
    due_at: datetime
    expires_at: datetime | None
    handed_at: datetime | None
    ended_at: datetime | None


class BulkStore:
    """Every method raises DatabaseUnavailable and may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lanes: dict[LaneKey, tuple[int, float]] = {}

    async def open_lanes(self, keys: Iterable[LaneKey], *, paused: bool = False) -> dict[LaneKey, int]:
        """The lanes' ids; those that are new begin `paused` or not."""
        wanted = sorted(set(keys))
        now = time.monotonic()
        known = {key: self._lanes.get(key) for key in wanted}
        missing = [key for key, found in known.items() if found is None or now - found[1] > _LANE_KNOWN_S]
        if missing:
            if len(self._lanes) > _LANES_KNOWN:
                self._lanes.clear()
            self._lanes.update({key: (number, now) for key, number in (await self._open(missing, paused)).items()})
        return {key: self._lanes[key][0] for key in wanted}

    async def _open(self, keys: Sequence[LaneKey], paused: bool) -> dict[LaneKey, int]:
        rows = await self._database.fetch(
            # In the order of ids, too (lane_locks.py): those there are first.
            """
            INSERT INTO scheduler.bulk_lane (account, kind, name, paused)
            SELECT account, kind, name, $4 FROM unnest($1::text[], $2::text[], $3::text[]) AS given(account, kind, name)
            ORDER BY (SELECT id FROM scheduler.bulk_lane AS lane WHERE lane.account = given.account
                      AND lane.kind = given.kind AND lane.name = given.name), account, kind, name
            ON CONFLICT (account, kind, name) DO UPDATE SET changed_at = now()
            RETURNING id, account, kind, name
            """,
            *_columns(keys, 3),
            paused,
        )
        return {LaneKey(row["account"], LaneKind(row["kind"]), row["name"]): row["id"] for row in rows}

    async def add(self, rows: Sequence[BulkRow]) -> int:
        """Keep mails that are not kept yet; returns how many those were.

        `rows` come merged, in the order of their ids. A mail whose cancellation is known is kept as cancelled, and its
        result will be told.
        """
        if not rows:
            return 0
        lanes = await self.open_lanes(row.lane for row in rows)
        own, content_ids, contents = share_contents(rows)
        if contents:
            places = sorted((lanes[each.lane], each.id, each.body) for each in contents)
            await self.keep_contents(places)
        added = await self._database.fetch(
            _ADD,
            [row.id for row in rows],
            [lanes[row.lane] for row in rows],
            [row.number for row in rows],
            [row.due_at for row in rows],
            [row.expires_at for row in rows],
            content_ids,
            own,
            [row.traceparent for row in rows],
        )
        # Mail and cancellation are each committed before the other is looked for, so one of them finds the other.
        await self.cancel_mails([row.id for row in rows])
        return int(added[0]["added"])

    async def keep_contents(self, places: Sequence[tuple[int, UUID, bytes]]) -> None:
        """Keep contents by lane and id, before mails that have them."""
        await self._database.fetch(
            """
            INSERT INTO scheduler.bulk_content AS kept (lane, id, body)
            SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bytea[])
            ON CONFLICT (lane, id) DO UPDATE SET used_at = now() WHERE kept.used_at < now() - interval '1 h'
            """,
            *_columns(places, 3),
        )

    async def pause(self, lane: LaneKey) -> bool:
        """Let nothing more of the lane leave. False: there is no such lane."""
        return await self._change(lane, "paused = true")

    async def resume(self, lane: LaneKey) -> bool:
        """Let it go on. False: there is no such lane."""
        return await self._change(lane, "paused = false")

    async def cancel(self, lane: LaneKey) -> bool:
        """Nothing more leaves, at once; what is pending is cancelled by a worker, little by little, and told.

        False: there is no such lane. Mail that comes into the lane later is cancelled, too.
        """
        return await self._change(lane, "cancelled_at = coalesce(cancelled_at, now())")

    async def _change(self, lane: LaneKey, change: str) -> bool:
        rows = await self._database.fetch(
            f"UPDATE scheduler.bulk_lane SET {change}, changed_at = now() WHERE {_THIS_LANE} RETURNING id", *lane
        )
        return bool(rows)

    async def report(self, lane: LaneKey) -> LaneReport | None:
        """Where the lane's mails stand; None: there is no such lane, or it ended longer ago than rows are kept."""
        rows = await self._database.fetch(f"SELECT {_LANE} FROM scheduler.bulk_lane WHERE {_THIS_LANE}", *lane)
        return _read_lane(rows[0]) if rows else None

    async def report_all(self, ids: Sequence[int]) -> dict[int, LaneReport]:
        """The same for many lanes at once, by id."""
        rows = await self._database.fetch(f"SELECT {_LANE} FROM scheduler.bulk_lane WHERE id = ANY($1::bigint[])", ids)
        return {row["id"]: _read_lane(row) for row in rows}

    async def discard(self, lane: LaneKey, limit: int = 5000) -> int:
        """Delete up to `limit` mails that are pending, without a word: nobody was told that they were taken in.

        Returns how many those were; call it again until there are none.
        """
        rows = await self._database.fetch(
            f"""
            WITH gone AS (
                DELETE FROM scheduler.bulk_mail WHERE ctid = ANY(ARRAY(
                    SELECT mail.ctid FROM scheduler.bulk_mail AS mail
                    WHERE shelf = 'p' AND lane = (SELECT id FROM scheduler.bulk_lane WHERE {_THIS_LANE})
                    LIMIT $4 FOR UPDATE SKIP LOCKED)) RETURNING lane),
            counted AS (
                UPDATE scheduler.bulk_lane AS lane SET pending = lane.pending - n, changed_at = now()
                FROM (SELECT lane, count(*) AS n FROM gone GROUP BY lane) AS left_lane WHERE lane.id = left_lane.lane)
            SELECT count(*) AS gone FROM gone
            """,
            *lane,
            limit,
        )
        return int(rows[0]["gone"])

    async def cancel_mails(self, ids: Sequence[UUID]) -> int:
        """Cancel those of the mails that are pending and whose cancellation is kept (R7); returns how many."""
        rows = await self._database.fetch(_CANCEL_KEPT, sorted(ids))
        return int(rows[0]["cancelled"])

    async def cancel_mail(self, mail_id: UUID, account: str) -> bool:
        """Cancel one mail of this account that is pending. False: there is none."""
        rows = await self._database.fetch(_CANCEL_ONE, mail_id, account)
        return bool(rows[0]["cancelled"])

    async def find(self, mail_id: UUID, account: str) -> FoundMail | None:
        """One mail of this account; None: it never was bulk, or ended longer ago than rows are kept."""
        rows = await self._database.fetch(
            """
            SELECT mail.id, state, due_at, expires_at, mail.handed_at, ended_at FROM scheduler.bulk_mail AS mail
            JOIN scheduler.bulk_lane AS lane ON lane.id = mail.lane WHERE mail.id = $1 AND lane.account = $2
            """,
            mail_id,
            account,
        )
        if not rows:
            return None
        row = rows[0]
        return FoundMail(
            UUID(int=row["id"].int),
            BulkState(row["state"]),
            row["due_at"],
            row["expires_at"],
            row["handed_at"],
            row["ended_at"],
        )


# What `gone` lists (id, lane) has just been cancelled: told by whoever leases the group, counted in its lanes.
_NOTE_CANCELLED = """
    noted AS (
        INSERT INTO scheduler.bulk_group (id, kind, mails)
        SELECT gen_random_uuid(), 'cancellation', array_agg(id) FROM (
            SELECT id, (row_number() OVER (ORDER BY id) - 1) / 100 AS part FROM gone) AS mail GROUP BY part)
"""
_ADD = f"""
    WITH fresh AS (
        INSERT INTO scheduler.bulk_mail
            (id, lane, number, due_at, expires_at, content, own, traceparent, state, ended_at)
        SELECT given.*, CASE WHEN kept.id IS NULL THEN 'pending' ELSE 'cancelled' END,
               CASE WHEN kept.id IS NOT NULL THEN now() END
        FROM unnest($1::uuid[], $2::bigint[], $3::int[], $4::timestamptz[], $5::timestamptz[], $6::uuid[], $7::bytea[],
                    $8::text[]) AS given(id, lane, number, due_at, expires_at, content, own, traceparent)
        JOIN scheduler.bulk_lane AS lane ON lane.id = given.lane
        LEFT JOIN scheduler.cancellation AS kept
             ON kept.id = given.id AND kept.account = lane.account AND kept.keep_until > now()
        ORDER BY given.id
        ON CONFLICT (id) DO NOTHING RETURNING id, lane, state),
    gone AS (SELECT id, lane FROM fresh WHERE state = 'cancelled'),
    {_NOTE_CANCELLED},{lock_lanes("fresh")},
    counted AS (
        UPDATE scheduler.bulk_lane AS lane
        SET pending = lane.pending + came.pending, cancelled = lane.cancelled + came.cancelled, changed_at = now()
        FROM (SELECT lane, count(*) FILTER (WHERE state = 'pending') AS pending,
                     count(*) FILTER (WHERE state = 'cancelled') AS cancelled FROM fresh GROUP BY lane) AS came
        JOIN locked ON locked.id = came.lane WHERE lane.id = came.lane)
    SELECT count(*) AS added FROM fresh
"""
# What has left before and was only to leave once more (a mailing's, of which nothing was heard) may have been sent: it
# is with the senders, as it was before.
_CANCEL = f"""
    gone AS (
        UPDATE scheduler.bulk_mail AS mail SET state = 'cancelled', ended_at = now() FROM chosen
        WHERE mail.id = chosen.id AND mail.state = 'pending' AND mail.handed_at IS NULL RETURNING mail.id, mail.lane),
    left_before AS (
        UPDATE scheduler.bulk_mail AS mail SET state = 'deferred' FROM chosen
        WHERE mail.id = chosen.id AND mail.state = 'pending' AND mail.handed_at IS NOT NULL RETURNING mail.lane),
    {_NOTE_CANCELLED},
    mails AS (SELECT lane, 1 AS is_gone FROM gone UNION ALL SELECT lane, 0 FROM left_before),{lock_lanes("mails")},
    counted AS (
        UPDATE scheduler.bulk_lane AS lane
        SET pending = lane.pending - n, cancelled = lane.cancelled + of_lane.cancelled,
            deferred = lane.deferred + n - of_lane.cancelled, changed_at = now()
        FROM (SELECT lane, count(*) AS n, sum(is_gone) AS cancelled FROM mails GROUP BY lane) AS of_lane
        JOIN locked ON locked.id = of_lane.lane WHERE lane.id = of_lane.lane)
    SELECT count(*) AS cancelled FROM gone
"""
_CANCEL_KEPT = f"""
    WITH chosen AS MATERIALIZED (
        SELECT mail.id FROM scheduler.bulk_mail AS mail
        JOIN scheduler.bulk_lane AS lane ON lane.id = mail.lane
        JOIN scheduler.cancellation AS kept
             ON kept.id = mail.id AND kept.account = lane.account AND kept.keep_until > now()
        WHERE mail.id = ANY($1::uuid[]) AND mail.state = 'pending' AND mail.handed_at IS NULL
        ORDER BY mail.id FOR UPDATE OF mail),
    {_CANCEL}
"""
_CANCEL_ONE = f"""
    WITH chosen AS MATERIALIZED (
        SELECT mail.id FROM scheduler.bulk_mail AS mail
        JOIN scheduler.bulk_lane AS lane ON lane.id = mail.lane
        WHERE mail.id = $1 AND lane.account = $2 AND mail.state = 'pending' AND mail.handed_at IS NULL
        FOR UPDATE OF mail),
    {_CANCEL}
"""
# Of one lane at a time, the first that was cancelled and still has mail.
CANCEL_LANE = f"""
    WITH chosen AS MATERIALIZED (
        SELECT mail.id FROM scheduler.bulk_mail AS mail
        WHERE mail.shelf = 'p' AND mail.lane = (
            SELECT id FROM scheduler.bulk_lane WHERE waiting AND cancelled_at IS NOT NULL ORDER BY id LIMIT 1)
        LIMIT $1 FOR UPDATE SKIP LOCKED),
    {_CANCEL}
"""


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Arrays for unnest."""
    return [list(map(itemgetter(number), rows)) for number in range(width)]


def _read_lane(row: Any) -> LaneReport:
    return LaneReport(
        row["id"],
        LaneKey(row["account"], LaneKind(row["kind"]), row["name"]),
        row["paused"],
        row["cancelled_at"],
        {state: row[state.value] for state in BulkState},
        row["created_at"],
        row["changed_at"],
    )
