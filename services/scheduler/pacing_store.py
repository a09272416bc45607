"""The statements by which bulk mail leaves and its results come back (R2).

Whoever moves credits holds the window's row first, then lanes, then mails: so any number of processes agree on what is
in flight, and none waits for another in a circle. A mail's state, its lane's counters and the window change in one
statement; what is in flight is always the number of rows that are `queued`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from services.scheduler.bulk_store import CANCEL_LANE
from services.scheduler.pacing.fairness import Claim
from services.scheduler.pacing.states import ENDS, BulkState
from services.scheduler.pacing.window import Window
from shared.cleaning import delete_chosen
from shared.database import Database
from shared.due import DueRow, DueTable

RELEASES = DueTable("scheduler.bulk_group", where="kind = 'release'")
CANCELLATIONS = DueTable("scheduler.bulk_group", where="kind = 'cancellation'")
STUCK_AFTER = timedelta(seconds=60)
_CLAIMS, _CLAIMS_OF_ACCOUNT = 500, 50  # lanes looked at in one round
_BYTES = 16 * 1024 * 1024  # of mails held in memory by one round


@dataclass(frozen=True, slots=True)
class View:
    """What a round of handing out goes by. `stuck`: mails on their way in lanes that get no results."""

    window: Window
    measured_at: datetime
    stuck: int
    claims: list[Claim]

    @property
    def free(self) -> int:
        """How many mails may leave."""
        return max(0, self.window.free + self.stuck)


class QueuedMail(NamedTuple):
    """One mail as it is to be published."""

    id: UUID
    lane: int
    content: UUID | None
    own: bytes
    expires_at: datetime
    traceparent: str | None


class CancelledMail(NamedTuple):
    """One mail whose cancellation is to be told."""

    id: UUID
    lane: int
    content: UUID | None
    own: bytes
    cancelled_at: datetime
    traceparent: str | None


class Result(NamedTuple):
    """What became of one mail, as its newest result says."""

    id: str
    state: BulkState
    attempt: int


class PacingStore:
    """Every method raises DatabaseUnavailable and may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self) -> View:
        """The window, and the lanes that have mail due. Lanes that are stuck get no more, and take no one's room."""
        rows = await self._database.fetch(_LOOK, STUCK_AFTER, _CLAIMS, _CLAIMS_OF_ACCOUNT)
        first = rows[0]
        window = Window(
            first["size"],
            first["in_flight"],
            first["rate"],
            first["latency_s"],
            first["results"],
            first["fastest_s"],
            first["elapsed_s"],
            first["now_s"],
        )
        claims = [
            Claim(row["lane"], row["account"], row["queued"], row["pending"]) for row in rows if row["lane"] is not None
        ]
        return View(window, first["measured_at"], first["stuck"], claims)

    async def adjust(self, view: View, window: Window) -> None:
        """Take on what has been measured from that view, unless another process has meanwhile."""
        await self._database.fetch(
            """
            UPDATE scheduler.bulk_window
            SET size = $1, rate = $2, latency_s = $3, fastest_s = $4, results = results - $5, measured_at = now()
            WHERE measured_at = $6
            """,
            window.size,
            window.rate,
            window.latency_s,
            window.fastest_s,
            view.window.results,
            view.measured_at,
        )

    async def take(
        self, shares: Mapping[int, int], stuck: int, lease: timedelta, default: timedelta, limit: timedelta
    ) -> tuple[DueRow, list[QueuedMail]] | None:
        """Hand out up to so many mails of each lane, as far as the window allows: they are `queued` from here on.

        They stand in a group that is leased for `lease`: published and finished, or published again by whoever leases
        it next. `default` and `limit`: how long after now they may be tried.
        """
        group, token = uuid4(), uuid4()
        found = await self._database.fetch(
            _TAKE, list(shares), list(shares.values()), stuck, group, token, lease, default, limit, _BYTES
        )
        return (DueRow(group, token, {}), list(map(_read_queued, found))) if found else None

    async def list_queued(self, group: DueRow) -> list[QueuedMail]:
        """The group's mails that have had no result yet."""
        rows = await self._database.fetch(
            """
            SELECT id, lane, content, own, expires_at, traceparent FROM scheduler.bulk_mail
            WHERE id = ANY($1::uuid[]) AND state = 'queued' ORDER BY content, expires_at, number
            """,
            group.columns["mails"],
        )
        return list(map(_read_queued, rows))

    async def list_cancelled(self, group: DueRow) -> list[CancelledMail]:
        """The group's mails, to be told."""
        rows = await self._database.fetch(
            """
            SELECT id, lane, content, own, ended_at, traceparent FROM scheduler.bulk_mail
            WHERE id = ANY($1::uuid[]) AND state = 'cancelled' AND own IS NOT NULL ORDER BY id
            """,
            group.columns["mails"],
        )
        return [
            CancelledMail(row["id"], row["lane"], row["content"], row["own"], row["ended_at"], row["traceparent"])
            for row in rows
        ]

    async def load_contents(self, places: Sequence[tuple[int, UUID]]) -> dict[tuple[int, UUID], bytes]:
        """The bodies of contents, by lane and id."""
        rows = await self._database.fetch(
            """
            SELECT lane, id, body FROM scheduler.bulk_content
            JOIN unnest($1::bigint[], $2::uuid[]) AS wanted(lane, id) USING (lane, id)
            """,
            [lane for lane, _ in places],
            [content for _, content in places],
        )
        return {(row["lane"], row["id"]): row["body"] for row in rows}

    async def finish(self, group: DueRow) -> None:
        """The broker has acknowledged all of it."""
        await RELEASES.finish(self._database, [group])

    async def settle(self, results: Sequence[Result]) -> int:
        """Note results, one for each mail, in the order of ids; returns how many mails they changed.

        A mail leaves the window with its first result. Results that say nothing new change nothing.
        """
        rows = await self._database.fetch(
            _SETTLE,
            [result.id for result in results],
            [result.state.value for result in results],
            [result.attempt for result in results],
        )
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

    async def give_up(self, after: timedelta, limit: int) -> int:
        """End up to `limit` mails that expired longer than `after` ago and of which nothing was heard."""
        rows = await self._database.fetch(_GIVE_UP, after, limit)
        return int(rows[0]["changed"])

    async def measure_waiting(self) -> tuple[Window, float]:
        """The window, and how long the mail that is due longest has waited, in seconds."""
        rows = await self._database.fetch(_WAITING)
        row = rows[0]
        return Window(row["size"], row["in_flight"]), max(0.0, row["age_s"] or 0.0)

    async def delete_ended(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` mails that ended longer ago than `kept`."""
        chosen = """
            SELECT ctid FROM scheduler.bulk_mail WHERE ended_at < now() - $1::interval ORDER BY ended_at LIMIT $2
        """
        return await delete_chosen(self._database, "scheduler.bulk_mail", chosen, kept, limit)

    async def delete_contents(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` contents not used for longer than `kept`, and that no mail waits to leave with."""
        chosen = """
            SELECT ctid FROM scheduler.bulk_content AS content WHERE used_at < now() - $1::interval
            AND NOT EXISTS (SELECT FROM scheduler.bulk_mail AS mail WHERE mail.state = 'pending'
                            AND mail.lane = content.lane AND mail.content = content.id)
            AND NOT EXISTS (SELECT FROM scheduler.bulk_mail AS mail WHERE mail.state = 'queued'
                            AND mail.lane = content.lane AND mail.content = content.id)
            ORDER BY used_at LIMIT $2
        """
        return await delete_chosen(self._database, "scheduler.bulk_content", chosen, kept, limit)

    async def delete_lanes(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` batches' and mailings' lanes in which nothing has changed for `kept`."""
        chosen = """
            SELECT ctid FROM scheduler.bulk_lane
            WHERE kind <> 'loose' AND created_at < now() - $1::interval AND changed_at < now() - $1::interval
              AND pending + queued + deferred + unknown = 0
            ORDER BY created_at LIMIT $2
        """
        return await delete_chosen(self._database, "scheduler.bulk_lane", chosen, kept, limit)


def _read_queued(row: Any) -> QueuedMail:
    return QueuedMail(row["id"], row["lane"], row["content"], row["own"], row["expires_at"], row["traceparent"])


# Of each account those lanes that have waited longest, and of all of them each account's first. A lane's rate limit and
# its hours of the day will be further conditions.
_LOOK = """
    SELECT room.size, room.in_flight, room.rate, room.latency_s, room.results, room.fastest_s, room.measured_at,
           extract(epoch FROM now() - room.measured_at)::float8 AS elapsed_s,
           extract(epoch FROM now())::float8 AS now_s,
           (SELECT coalesce(sum(queued), 0)::int FROM scheduler.bulk_lane
            WHERE flying AND greatest(handed_at, result_at) < now() - $1::interval) AS stuck,
           claim.id AS lane, claim.account, claim.queued::int, claim.pending::int
    FROM scheduler.bulk_window AS room LEFT JOIN (
        SELECT id, account, queued, least(pending, 100000) AS pending, handed_at FROM (
            SELECT *, row_number() OVER (PARTITION BY account ORDER BY handed_at NULLS FIRST) AS rank
            FROM scheduler.bulk_lane
            WHERE waiting AND NOT paused AND cancelled_at IS NULL
              AND NOT (flying AND greatest(handed_at, result_at) < now() - $1::interval)) AS lane
        WHERE rank <= $3 AND EXISTS (
            SELECT FROM scheduler.bulk_mail AS mail
            WHERE mail.lane = lane.id AND mail.state = 'pending' AND mail.due_at <= now())
        ORDER BY rank, handed_at NULLS FIRST LIMIT $2) AS claim ON true
    ORDER BY claim.handed_at NULLS FIRST
"""
_TAKE = """
    WITH room AS MATERIALIZED (SELECT size - in_flight + $3::int AS free FROM scheduler.bulk_window FOR UPDATE),
    wanted AS MATERIALIZED (
        SELECT lane.id, given.quota FROM unnest($1::bigint[], $2::int[]) AS given(lane, quota)
        JOIN scheduler.bulk_lane AS lane ON lane.id = given.lane
        WHERE lane.waiting AND NOT lane.paused AND lane.cancelled_at IS NULL),
    chosen AS MATERIALIZED (
        SELECT id FROM (
            SELECT mail.id, sum(mail.size) OVER (ROWS UNBOUNDED PRECEDING) - mail.size AS before
            FROM wanted CROSS JOIN LATERAL (
                SELECT id, octet_length(own) AS size FROM scheduler.bulk_mail
                WHERE lane = wanted.id AND state = 'pending' AND due_at <= now()
                ORDER BY due_at, number LIMIT wanted.quota FOR UPDATE SKIP LOCKED) AS mail
            LIMIT (SELECT greatest(0, free) FROM room)) AS mail
        WHERE before < $9),
    taken AS (
        UPDATE scheduler.bulk_mail AS mail
        SET state = 'queued', handed_at = now(), expires_at = least(coalesce(expires_at, now() + $7), now() + $8)
        FROM chosen WHERE mail.id = chosen.id
        RETURNING mail.id, mail.lane, mail.content, mail.own, mail.expires_at, mail.traceparent, mail.number),
    spent AS (
        UPDATE scheduler.bulk_window SET in_flight = in_flight + (SELECT count(*) FROM taken)
        WHERE (SELECT count(*) FROM taken) > 0),
    counted AS (
        UPDATE scheduler.bulk_lane AS lane
        SET pending = lane.pending - n, queued = lane.queued + n, handed_at = now(), changed_at = now()
        FROM (SELECT lane, count(*) AS n FROM taken GROUP BY lane) AS of_lane WHERE lane.id = of_lane.lane),
    noted AS (
        INSERT INTO scheduler.bulk_group (id, kind, mails, lease_token, lease_until)
        SELECT $4, 'release', array_agg(id), $5, now() + $6 FROM taken HAVING count(*) > 0)
    SELECT * FROM taken ORDER BY content, expires_at, number
"""
_STATES = ", ".join(f"{state} = lane.{state} + moved.{state}" for state in BulkState)
_MOVED = ", ".join(
    f"count(*) FILTER (WHERE next = '{state}') - count(*) FILTER (WHERE state = '{state}') AS {state}"
    for state in BulkState
)
_IS_END = "IN ({})".format(", ".join(f"'{state}'" for state in ENDS))
# `known` (id, lane, state, handed_at, next, attempt) becomes what it is next. `heard` says whether a result said so.
_MOVE = """
    changed AS (
        UPDATE scheduler.bulk_mail AS mail
        SET state = known.next, attempt = known.attempt,
            ended_at = CASE WHEN known.next {is_end} THEN now() END,
            own = CASE WHEN known.next <> 'sent' THEN mail.own END
        FROM known WHERE mail.id = known.id),
    counted AS (
        UPDATE scheduler.bulk_lane AS lane SET {states}, changed_at = now(),
            result_at = CASE WHEN {heard} THEN now() ELSE lane.result_at END
        FROM (SELECT lane, {moved} FROM known GROUP BY lane) AS moved WHERE lane.id = moved.lane),
    returned AS (
        UPDATE scheduler.bulk_window AS room
        SET in_flight = room.in_flight - first.n, results = room.results + CASE WHEN {heard} THEN first.n ELSE 0 END,
            fastest_s = CASE WHEN {heard} THEN least(room.fastest_s, first.fastest_s) ELSE room.fastest_s END
        FROM (SELECT count(*)::int AS n, extract(epoch FROM now() - max(handed_at))::float8 AS fastest_s
              FROM known WHERE state = 'queued') AS first
        WHERE first.n > 0)
    SELECT count(*) AS changed FROM known
"""
_SETTLE = f"""
    WITH room AS MATERIALIZED (SELECT id FROM scheduler.bulk_window FOR UPDATE),
    known AS MATERIALIZED (
        SELECT mail.id, mail.lane, mail.state, mail.handed_at, given.next, given.attempt
        FROM room CROSS JOIN unnest($1::uuid[], $2::text[], $3::int[]) AS given(id, next, attempt)
        JOIN scheduler.bulk_mail AS mail ON mail.id = given.id
        WHERE mail.state IN ('pending', 'queued') OR (mail.state IN ('deferred', 'unknown') AND (
              given.next {_IS_END} OR (given.attempt, given.next) > (mail.attempt, mail.state)))
        ORDER BY mail.id FOR UPDATE OF mail),
    {_MOVE.format(is_end=_IS_END, states=_STATES, moved=_MOVED, heard="true")}
"""
_RELEASE_STALE = f"""
    WITH room AS MATERIALIZED (SELECT id FROM scheduler.bulk_window FOR UPDATE),
    known AS MATERIALIZED (
        SELECT mail.id, mail.lane, mail.state, mail.handed_at, 'deferred' AS next, mail.attempt
        FROM room CROSS JOIN scheduler.bulk_mail AS mail JOIN scheduler.bulk_lane AS lane ON lane.id = mail.lane
        WHERE mail.state = 'queued' AND mail.handed_at < now() - $1::interval
          AND lane.result_at > mail.handed_at + $1::interval
        ORDER BY mail.id FOR UPDATE OF mail),
    {_MOVE.format(is_end=_IS_END, states=_STATES, moved=_MOVED, heard="false")}
"""
_GIVE_UP = f"""
    WITH room AS MATERIALIZED (SELECT id FROM scheduler.bulk_window FOR UPDATE),
    known AS MATERIALIZED (
        SELECT mail.id, mail.lane, mail.state, mail.handed_at, 'expired' AS next, mail.attempt
        FROM room CROSS JOIN scheduler.bulk_mail AS mail
        WHERE mail.state IN ('queued', 'deferred', 'unknown') AND mail.id = ANY(ARRAY(
            SELECT id FROM scheduler.bulk_mail WHERE state = 'queued' AND expires_at < now() - $1::interval
            UNION ALL SELECT id FROM scheduler.bulk_mail
            WHERE state IN ('deferred', 'unknown') AND expires_at < now() - $1::interval
            LIMIT $2))
        ORDER BY mail.id FOR UPDATE OF mail),
    {_MOVE.format(is_end=_IS_END, states=_STATES, moved=_MOVED, heard="false")}
"""
_WAITING = """
    SELECT room.size, room.in_flight, (
        SELECT extract(epoch FROM now() - min(first.due_at))::float8 FROM scheduler.bulk_lane AS lane
        CROSS JOIN LATERAL (SELECT due_at FROM scheduler.bulk_mail AS mail
                            WHERE mail.lane = lane.id AND mail.state = 'pending' ORDER BY due_at LIMIT 1) AS first
        WHERE lane.waiting AND NOT lane.paused) AS age_s
    FROM scheduler.bulk_window AS room
"""
