"""The statements by which a mailing begins, and its audience becomes rows (R2).

One process at a time takes an audience in, as long as its lease lasts. A portion of rows and the place up to which they
reach are written by one statement, and only from the place that was read: whoever goes on after a death goes on from
there, and of two who read the same portion, because one of them took longer than its lease, the first writes it. What
was read before somebody of the account was erased is not written.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from services.scheduler.mailings.audience_store import write_source
from services.scheduler.mailings.course.freezing import Addressee, MailingRow
from services.scheduler.mailings.mailing import Mailing
from services.scheduler.mailings.store import read_mailing
from services.scheduler.unsubscribing.condition_store import look_up_unsubscribed
from shared.database import Database

LEASE = timedelta(seconds=10)
_NOBODY = UUID(int=0)


class Place(NamedTuple):
    """How far an audience has been taken in, at PostgreSQL's time. `cursor`: the last recipient, None: nobody yet."""

    cursor: UUID | None
    recipients: int
    now: datetime
    erasures: int


class FreezeStore:
    """Every method raises DatabaseUnavailable. `audiences` plans each audience for its own values."""

    def __init__(self, database: Database, audiences: Database) -> None:
        self._database = database
        self._audiences = audiences

    async def begin_due(self, account: str) -> int:
        """Let the account's mailings run whose time has come, each with a lane of its own; returns how many."""
        return len(await self._database.fetch(_BEGIN, account))

    async def lease(self, account: str) -> tuple[Mailing, Place] | None:
        """A mailing of the account whose audience is to be taken in, and that nobody takes in now."""
        rows = await self._database.fetch(_LEASE, account, LEASE)
        if not rows:
            return None
        row = rows[0]
        return read_mailing(row), Place(row["freeze_cursor"], row["recipients"], row["now"], row["freeze_erasures"])

    async def read(self, mailing: Mailing, place: Place, limit: int) -> list[Addressee]:
        """The next recipients, of those who were there when the mailing began."""
        source = write_source(mailing.account, mailing.definition.audience)
        first = len(source.args) + 1
        rows = await self._audiences.fetch(
            f"""
            SELECT recipient, address, name, zone, variables, {look_up_unsubscribed("source.recipient")} AS unsubscribed
            FROM ({source.sql}) AS source WHERE recipient > ${first} AND since <= ${first + 1}
            ORDER BY recipient LIMIT ${first + 2}
            """,
            *source.args,
            place.cursor or _NOBODY,
            mailing.started_at,
            limit,
        )
        return [Addressee(*row.values()) for row in rows]

    async def keep(
        self, mailing: Mailing, place: Place, content: UUID, rows: Sequence[MailingRow], *, is_last: bool
    ) -> Place | None:
        """Write a portion. None, with nothing written: somebody else goes on, was erased, or the mailing cancelled."""
        cursor = rows[-1].recipient if rows else place.cursor
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(MailingRow._fields)
        found = await self._database.fetch(
            _KEEP, mailing.id, place.erasures, place.cursor, cursor, is_last, LEASE, content, *columns
        )
        return Place(cursor, found[0]["recipients"], found[0]["now"], place.erasures) if found else None


_BEGIN = """
    WITH due AS MATERIALIZED (
        SELECT id, account, rate, finish_at FROM scheduler.mailing
        WHERE account = $1 AND state = 'scheduled' AND finished_at IS NULL AND coalesce(start_at, now()) <= now()
        ORDER BY id FOR UPDATE SKIP LOCKED),
    opened AS (
        INSERT INTO scheduler.bulk_lane (account, kind, name, rate, finish_at, tokens)
        SELECT account, 'mailing', id::text, rate, finish_at, 1 FROM due
        ON CONFLICT (account, kind, name) DO UPDATE SET rate = excluded.rate, finish_at = excluded.finish_at
        RETURNING id, name)
    UPDATE scheduler.mailing AS mailing SET state = 'running', started_at = now(), lane = opened.id, changed_at = now(),
           due_at = now()
    FROM opened WHERE mailing.id = opened.name::uuid RETURNING mailing.id
"""
_LEASE = """
    UPDATE scheduler.mailing SET freeze_until = now() + $2::interval
    WHERE id = (
        SELECT id FROM scheduler.mailing
        WHERE account = $1 AND state IN ('running', 'paused') AND finished_at IS NULL AND frozen_at IS NULL
          AND coalesce(freeze_until < now(), true)
        ORDER BY started_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING *, now() AS now
"""
# The mailing's row first: cancelling waits for the portion, or the portion finds it cancelled.
_KEEP = """
    WITH held AS MATERIALIZED (
        SELECT id, lane FROM scheduler.mailing
        WHERE id = $1 AND freeze_erasures = $2 AND freeze_cursor IS NOT DISTINCT FROM $3 AND frozen_at IS NULL
          AND state IN ('running', 'paused') FOR UPDATE),
    fresh AS (
        INSERT INTO scheduler.bulk_mail (id, lane, recipient, number, due_at, expires_at, content, own, zone, state,
                                         reason, detail, ended_at)
        SELECT given.id, held.lane, recipient, number, due_at, expires_at, $7, own, zone, state, reason, detail,
               CASE WHEN state <> 'pending' THEN now() END
        FROM held CROSS JOIN unnest($8::uuid[], $9::uuid[], $10::int[], $11::timestamptz[], $12::timestamptz[],
                                    $13::bytea[], $14::text[], $15::text[], $16::text[], $17::text[])
             AS given(id, recipient, number, due_at, expires_at, own, zone, state, reason, detail)
        ON CONFLICT DO NOTHING RETURNING state),
    came AS MATERIALIZED (
        SELECT count(*) AS n, count(*) FILTER (WHERE state = 'pending') AS pending,
               count(*) FILTER (WHERE state = 'skipped') AS skipped, count(*) FILTER (WHERE state = 'failed') AS failed
        FROM fresh),
    counted AS (
        UPDATE scheduler.bulk_lane AS lane
        SET pending = lane.pending + came.pending, skipped = lane.skipped + came.skipped,
            failed = lane.failed + came.failed, changed_at = now()
        FROM held, came WHERE lane.id = held.lane)
    UPDATE scheduler.mailing AS mailing
    SET freeze_until = now() + $6::interval, freeze_cursor = $4,
        recipients = mailing.recipients + came.n, frozen_at = CASE WHEN $5 THEN now() END, changed_at = now()
    FROM held, came WHERE mailing.id = held.id RETURNING mailing.recipients, now() AS now
"""
