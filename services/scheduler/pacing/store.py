"""The statements by which bulk mail leaves (R2); how it ends is in settling_store.py.

Whoever moves credits holds the window's row first, then lanes, then mails: so any number of processes agree on what is
in flight, and none waits for another in a circle. A mail's state, its lane's counters and the window change in one
statement; what is in flight is always the number of rows that are `queued`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from services.scheduler.pacing.fairness import Claim
from services.scheduler.pacing.window import Window
from services.scheduler.unsubscribing.condition_store import look_up_unsubscribed
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
    recipient: UUID | None = None


class CancelledMail(NamedTuple):
    """One mail whose cancellation is to be told."""

    id: UUID
    lane: int
    content: UUID | None
    own: bytes
    cancelled_at: datetime
    traceparent: str | None


class PacingStore:
    """Every method raises DatabaseUnavailable and may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self) -> View:
        """The window, and the lanes that have mail due. Those that are stuck try one, and take no one's room."""
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
        """The group's mails that have had no result yet; of whoever was erased since nothing is left to publish."""
        rows = await self._database.fetch(
            """
            SELECT id, lane, content, own, expires_at, traceparent, recipient FROM scheduler.bulk_mail
            WHERE id = ANY($1::uuid[]) AND state = 'queued' AND own IS NOT NULL ORDER BY content, expires_at, number
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

    async def measure_waiting(self) -> tuple[Window, float]:
        """The window, and how long the mail that is due longest has waited, in seconds."""
        rows = await self._database.fetch(_WAITING)
        row = rows[0]
        return Window(row["size"], row["in_flight"]), max(0.0, row["age_s"] or 0.0)


def _read_queued(row: Any) -> QueuedMail:
    return QueuedMail(*map(row.__getitem__, QueuedMail._fields))


# Mails that may leave by a lane's rate: a bucket that holds those of a second.
TOKENS = """
    least(lane.rate, lane.tokens + lane.rate * greatest(0, extract(epoch FROM now() - lane.tokens_at)))
"""
# Of each account those lanes that have waited longest, and of all of them each account's first.
# A lane is stuck where mail of it has had no result for a while and none of its mail had: one mail a while is tried, so
# that a result that was lost does not keep the lane for days, and an outage does not fill the topic.
_LOOK = f"""
    WITH stuck AS MATERIALIZED (
        SELECT lane.id, found.mails FROM scheduler.bulk_lane AS lane CROSS JOIN LATERAL (
            SELECT count(*)::int AS mails FROM scheduler.bulk_mail AS mail
            WHERE mail.lane = lane.id AND mail.handed_at >= lane.flying_since
              AND mail.state = 'queued' AND mail.handed_at < now() - $1::interval) AS found
        WHERE lane.flying AND coalesce(lane.result_at, '-infinity') < now() - $1::interval AND found.mails > 0)
    SELECT room.size, room.in_flight, room.rate, room.latency_s, room.results, room.fastest_s, room.measured_at,
           extract(epoch FROM now() - room.measured_at)::float8 AS elapsed_s,
           extract(epoch FROM now())::float8 AS now_s,
           (SELECT coalesce(sum(mails), 0)::int FROM stuck) AS stuck,
           claim.id AS lane, claim.account, claim.queued::int, claim.pending::int
    FROM scheduler.bulk_window AS room LEFT JOIN (
        SELECT id, account, queued, pending, handed_at FROM (
            SELECT lane.id, account, handed_at, greatest(0, queued - coalesce(stuck.mails, 0)) AS queued,
                   CASE WHEN stuck.id IS NULL THEN least(pending, 100000, floor({TOKENS})) ELSE 1 END AS pending,
                   row_number() OVER (PARTITION BY account ORDER BY handed_at NULLS FIRST) AS rank
            FROM scheduler.bulk_lane AS lane LEFT JOIN stuck ON stuck.id = lane.id
            WHERE waiting AND NOT paused AND cancelled_at IS NULL
              AND (stuck.id IS NULL OR handed_at < now() - $1::interval) AND (rate IS NULL OR {TOKENS} >= 1)
              AND (SELECT due_at FROM scheduler.bulk_mail AS mail
                   WHERE mail.lane = lane.id AND mail.shelf = 'p' ORDER BY due_at LIMIT 1) <= now()) AS lane
        WHERE rank <= $3 ORDER BY rank, handed_at NULLS FIRST LIMIT $2) AS claim ON true
    ORDER BY claim.handed_at NULLS FIRST
"""
# A mailing's end is its lane's: it holds for what leaves from now on, whenever it was moved.
# Lanes are locked, so that what their buckets hold is what nobody else has just taken. A mailing's mail whose hours
# have ended before its turn came stays where it is, and is given other hours (services/scheduler/mailings). One whose
# recipient has unsubscribed is skipped, unless it has left before and nothing was heard of it: it may have been sent.
_TAKE = f"""
    WITH room AS MATERIALIZED (SELECT size - in_flight + $3::int AS free FROM scheduler.bulk_window FOR UPDATE),
    wanted AS MATERIALIZED (
        SELECT lane.id, lane.finish_at, least(given.quota, floor({TOKENS}))::int AS quota
        FROM room CROSS JOIN unnest($1::bigint[], $2::int[]) AS given(lane, quota)
        JOIN scheduler.bulk_lane AS lane ON lane.id = given.lane
        WHERE lane.waiting AND NOT lane.paused AND lane.cancelled_at IS NULL
        ORDER BY lane.id FOR UPDATE OF lane),
    chosen AS MATERIALIZED (
        SELECT id, finish_at, unwanted FROM (
            SELECT mail.id, mail.finish_at, mail.unwanted,
                   sum(mail.size) OVER (ROWS UNBOUNDED PRECEDING) - mail.size AS before
            FROM wanted CROSS JOIN LATERAL (
                SELECT id, size, wanted.finish_at,
                       handed_at IS NULL AND {look_up_unsubscribed("first.recipient")} AS unwanted FROM (
                    SELECT id, octet_length(own) AS size, recipient, handed_at, expires_at FROM scheduler.bulk_mail
                    WHERE lane = wanted.id AND shelf = 'p' AND due_at <= now()
                    ORDER BY due_at, number LIMIT wanted.quota FOR UPDATE SKIP LOCKED) AS first
                WHERE recipient IS NULL OR handed_at IS NOT NULL
                   OR coalesce(least(expires_at, wanted.finish_at) > now(), true)) AS mail
            LIMIT (SELECT greatest(0, free) FROM room)) AS mail
        WHERE before < $9),
    taken AS (
        UPDATE scheduler.bulk_mail AS mail
        SET state = 'queued', handed_at = now(),
            expires_at = least(coalesce(least(mail.expires_at, chosen.finish_at), now() + $7), now() + $8)
        FROM chosen WHERE chosen.id = mail.id AND NOT chosen.unwanted
        RETURNING mail.id, mail.lane, mail.content, mail.own, mail.expires_at, mail.traceparent, mail.number,
                  mail.recipient),
    skipped AS (
        UPDATE scheduler.bulk_mail AS mail SET state = 'skipped', reason = 'unsubscribed', ended_at = now()
        WHERE mail.id = ANY(ARRAY(SELECT id FROM chosen WHERE unwanted)) RETURNING mail.lane),
    spent AS (
        UPDATE scheduler.bulk_window SET in_flight = in_flight + (SELECT count(*) FROM taken)
        WHERE (SELECT count(*) FROM taken) > 0),
    counted AS (
        UPDATE scheduler.bulk_lane AS lane
        SET pending = lane.pending - n - skipped_n, queued = lane.queued + n, skipped = lane.skipped + skipped_n,
            handed_at = now(), changed_at = now(),
            flying_since = CASE WHEN lane.flying THEN least(lane.flying_since, now()) ELSE now() END,
            tokens = coalesce({TOKENS} - n, lane.tokens), tokens_at = greatest(lane.tokens_at, now())
        FROM (SELECT lane, sum(left_n) AS n, sum(1 - left_n) AS skipped_n
              FROM (SELECT lane, 1 AS left_n FROM taken UNION ALL SELECT lane, 0 FROM skipped) AS mail
              GROUP BY lane) AS of_lane WHERE lane.id = of_lane.lane),
    noted AS (
        INSERT INTO scheduler.bulk_group (id, kind, mails, lease_token, lease_until)
        SELECT $4, 'release', array_agg(id), $5, now() + $6 FROM taken HAVING count(*) > 0)
    SELECT * FROM taken ORDER BY content, expires_at, number
"""
_WAITING = """
    SELECT room.size, room.in_flight, (
        SELECT extract(epoch FROM now() - min(first.due_at))::float8 FROM scheduler.bulk_lane AS lane
        CROSS JOIN LATERAL (SELECT due_at FROM scheduler.bulk_mail AS mail
                            WHERE mail.lane = lane.id AND mail.shelf = 'p' ORDER BY due_at LIMIT 1) AS first
        WHERE lane.waiting AND NOT lane.paused) AS age_s
    FROM scheduler.bulk_window AS room
"""
