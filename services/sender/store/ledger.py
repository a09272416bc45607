"""The ledger, due mail and cancellations. All times are PostgreSQL's; batches go sorted by id, each id once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from services.sender.claims import Standing
from services.sender.ledger import LedgerEntry, LedgerState, RecipientResult
from services.sender.work import Work
from shared.cleaning import delete_chosen
from shared.database import Database
from shared.due import DueRow, DueTable

LEASE = timedelta(seconds=30)
KEEP_CANCELLATION = timedelta(hours=24)
DUE = DueTable("sender.due")
DECIDED = DueTable("sender.due", where="intent IN ('sent', 'failed')")
DUE_TESTS = DueTable("sender.due", where="test")

# One statement claims what is new, and looks up what stands against sending. Only ids of which there is something to
# say come back: those in the ledger already (`fresh` false; `load` tells their story), cancelled and suppressed ones.
# The first row, without an id, has the time. What is asked goes as one JSON text: arrays of ten columns take this
# process twice as long (docs/performance.md).
_CLAIM = """
WITH asked AS (
    SELECT * FROM json_to_recordset($1::text::json)
        AS t(id uuid, account text, digest text, message_id text, echo text, recipient_count int,
             accepted_at timestamptz, expires_at timestamptz, token uuid, recipients text)),
fresh AS (
    INSERT INTO sender.ledger (id, account, digest, message_id, echo, recipient_count, accepted_at, expires_at,
                               state, token, lease_until)
    SELECT id, account, digest, message_id, echo::json, recipient_count, accepted_at, expires_at,
           'claimed', token, now() + $2 FROM asked ORDER BY id
    ON CONFLICT (id) DO NOTHING RETURNING id),
found AS (
    SELECT asked.id, fresh.id IS NOT NULL AS fresh,
           EXISTS (SELECT 1 FROM sender.cancellation c
                   WHERE c.id = asked.id AND c.account = asked.account AND c.until > now()) AS cancelled,
           ARRAY(SELECT s.address FROM sender.suppression s
                 WHERE s.account = asked.account AND s.address = ANY(string_to_array(asked.recipients, E'\\n'))
                   AND (s.until IS NULL OR s.until > now())) AS suppressed
    FROM asked LEFT JOIN fresh USING (id))
SELECT NULL::uuid AS id, true AS fresh, now() AS now, false AS cancelled, '{}'::text[] AS suppressed
UNION ALL
SELECT id, fresh, now(), cancelled, suppressed FROM found WHERE NOT fresh OR cancelled OR suppressed <> '{}'
"""

_LOAD = """
SELECT l.*, l.lease_until < now() AS lapsed, coalesce(l.retry_at, l.expires_at) <= now() AS retry_due
FROM sender.ledger l WHERE id = ANY($1::uuid[])
"""

_TAKE = """
UPDATE sender.ledger AS l
SET state = 'claimed', token = t.token, lease_until = now() + $7, attempt = t.attempt, unknowns = t.unknowns,
    updated_at = now()
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::uuid[], $6::text[])
    AS t(id, token, attempt, unknowns, old_token, old_state)
WHERE l.id = t.id AND l.state = t.old_state AND l.token IS NOT DISTINCT FROM t.old_token
  AND (l.state <> 'claimed' OR l.lease_until < now())
RETURNING l.id, now() AS now
"""

# Settling needs the token. The due row of a mail that is not finished appears (or moves on) in the same transaction,
# held by the same token until its events are published. It is due at once until then, so that whoever comes after a
# death tells them; `_ANNOUNCED` writes its real time.
_SETTLED = """
WITH asked AS (
    SELECT * FROM json_to_recordset($1::text::json)
        AS t(id uuid, token uuid, state text, unknowns int, results text, retry_at timestamptz)),
settled AS (
    UPDATE sender.ledger AS l
    SET state = asked.state, unknowns = asked.unknowns, results = asked.results::json, retry_at = asked.retry_at,
        token = NULL, lease_until = NULL, updated_at = now()
    FROM asked WHERE l.id = asked.id AND l.token = asked.token RETURNING l.id)"""

# What was not ours any more comes back.
_LOST = "SELECT id FROM asked WHERE NOT EXISTS (SELECT 1 FROM settled WHERE settled.id = asked.id)"

_SETTLE = f"""{_SETTLED}
{_LOST}
"""

_SETTLE_WITH_DUE = f"""{_SETTLED},
waiting AS (
    INSERT INTO sender.due (id, kind, due_at, event, accepted_at, traceparent, test, lease_token, lease_until,
                            announced)
    SELECT t.id, t.kind, now(), t.event, t.accepted_at, t.traceparent, t.test, t.token, now() + $9, false
    FROM unnest($2::uuid[], $3::text[], $4::bytea[], $5::timestamptz[], $6::text[], $7::bool[], $8::uuid[])
        AS t(id, kind, event, accepted_at, traceparent, test, token)
    JOIN settled USING (id) ORDER BY t.id
    ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, due_at = excluded.due_at, event = excluded.event,
        lease_token = excluded.lease_token, lease_until = excluded.lease_until, announced = false,
        paused_account = NULL, paused_tag = NULL, resume_at = NULL, intent = NULL, intent_note = NULL)
{_LOST}
"""

_RELEASE = """
UPDATE sender.ledger AS l SET state = 'released', token = NULL, lease_until = NULL, updated_at = now()
FROM unnest($1::uuid[], $2::uuid[]) AS t(id, token) WHERE l.id = t.id AND l.token = t.token
"""

_RENEW = """
UPDATE sender.ledger AS l SET lease_until = now() + $3
FROM unnest($1::uuid[], $2::uuid[]) AS t(id, token) WHERE l.id = t.id AND l.token = t.token
RETURNING l.id, now() AS now
"""

_PARK = """
INSERT INTO sender.due (id, kind, due_at, event, accepted_at, traceparent, test)
SELECT t.id, 'parked', coalesce((SELECT lease_until FROM sender.ledger l WHERE l.id = t.id), now()) + interval '1s',
       t.event, t.accepted_at, t.traceparent, t.test
FROM unnest($1::uuid[], $2::bytea[], $3::timestamptz[], $4::text[], $5::bool[])
    AS t(id, event, accepted_at, traceparent, test)
ORDER BY t.id
ON CONFLICT (id) DO NOTHING
"""

_ANNOUNCED = """
UPDATE sender.due AS d
SET lease_token = NULL, lease_until = NULL, announced = true,
    due_at = CASE WHEN d.kind = 'deferred' AND EXISTS (
                      SELECT 1 FROM sender.cancellation c
                      WHERE c.id = l.id AND c.account = l.account AND c.until > now())
             THEN now() ELSE coalesce(l.retry_at, l.expires_at) END
FROM unnest($1::uuid[], $2::uuid[]) AS t(id, token), sender.ledger AS l
WHERE d.id = t.id AND d.lease_token = t.token AND l.id = t.id
"""

_POSTPONE = """
UPDATE sender.due SET due_at = now() + $3, lease_token = NULL, lease_until = NULL
WHERE id = $1 AND lease_token = $2
"""

_CANCEL = """
WITH kept AS (
    INSERT INTO sender.cancellation (id, account, until)
    SELECT t.id, t.account, now() + $3 FROM unnest($1::uuid[], $2::text[]) AS t(id, account) ORDER BY t.id, t.account
    ON CONFLICT (id, account) DO UPDATE SET until = excluded.until)
UPDATE sender.due AS d SET due_at = now()
FROM unnest($1::uuid[], $2::text[]) AS t(id, account), sender.ledger AS l
WHERE d.id = t.id AND l.id = t.id AND l.account = t.account
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What the claim found for one id."""

    fresh: bool
    cancelled: bool
    suppressed: frozenset[str]  # lower case
    now: datetime
    plain: bool = False  # new, and nothing stands against it


class SenderStore:
    """The sender's statements on one database."""

    def __init__(self, database: Database, lease: timedelta = LEASE) -> None:
        self.database = database
        self.lease = lease

    async def claim(self, works: Sequence[Work]) -> dict[UUID, Found]:
        """Insert what is new under its token; tell of each id whether it was, and whether it is cancelled."""
        ordered = sorted(works, key=_order)
        echoes: dict[int, str] = {}  # those of a bulk event share one
        asked = _write([_ask_claim(work, echoes) for work in ordered])
        rows = await self.database.fetch(_CLAIM, asked, self.lease)
        times, *others = rows
        plain = Found(True, False, frozenset(), times["now"], plain=True)
        found = dict.fromkeys((work.entry.id for work in ordered), plain)
        for row in others:
            found[row["id"]] = Found(row["fresh"], row["cancelled"], frozenset(row["suppressed"]), row["now"])
        return found

    async def load(self, ids: Sequence[UUID]) -> dict[UUID, tuple[LedgerEntry, Standing]]:
        """Rows by id, with how each one's claim stands."""
        rows = await self.database.fetch(_LOAD, list(ids))
        return {row["id"]: (_to_entry(row), _to_standing(row)) for row in rows}

    async def take(self, taken: Sequence[tuple[Work, Standing]]) -> dict[UUID, datetime]:
        """Claim rows as they were read; returns PostgreSQL's time for those still as read."""
        ordered = sorted(taken, key=lambda pair: _order(pair[0]))
        rows = await self.database.fetch(
            _TAKE,
            [work.id for work, _ in ordered],
            [work.token for work, _ in ordered],
            [work.entry.attempt for work, _ in ordered],
            [work.entry.unknowns for work, _ in ordered],
            [standing.token for _, standing in ordered],
            [standing.state.value for _, standing in ordered],
            self.lease,
        )
        return {row["id"]: row["now"] for row in rows}

    async def settle(self, works: Sequence[Work]) -> set[UUID]:
        """Write outcomes and, where recipients remain, due rows, in one transaction; returns ids that were not ours."""
        ordered = sorted(works, key=_order)
        asked = _write([_ask_settle(work) for work in ordered])
        waiting = [work for work in ordered if work.entry.state is not LedgerState.SETTLED]
        if not waiting:
            return {row["id"] for row in await self.database.fetch(_SETTLE, asked)}
        args: list[Any] = [
            [work.id for work in waiting],
            [work.entry.state.value for work in waiting],
            [work.mail.to_json() for work in waiting],
            [work.entry.accepted_at for work in waiting],
            [work.traceparent for work in waiting],
            [work.mail.test for work in waiting],
            [work.token for work in waiting],
            self.lease,
        ]
        return {row["id"] for row in await self.database.fetch(_SETTLE_WITH_DUE, asked, *args)}

    async def release(self, works: Sequence[Work]) -> None:
        """Give claims back: no content was written, no attempt is counted."""
        ordered = sorted(works, key=_order)
        await self.database.fetch(_RELEASE, [work.id for work in ordered], [work.token for work in ordered])

    async def renew(self, works: Sequence[Work]) -> dict[UUID, datetime]:
        """Extend the leases of claims; returns PostgreSQL's time for those still ours."""
        ordered = sorted(works, key=_order)
        rows = await self.database.fetch(
            _RENEW, [work.id for work in ordered], [work.token for work in ordered], self.lease
        )
        return {row["id"]: row["now"] for row in rows}

    async def park(self, works: Sequence[Work]) -> None:
        """Store mails that somebody else holds, due when his lease has ended; a stored one stays as it is."""
        ordered = sorted(works, key=_order)
        await self.database.fetch(
            _PARK,
            [work.id for work in ordered],
            [work.mail.to_json() for work in ordered],
            [work.entry.accepted_at for work in ordered],
            [work.traceparent for work in ordered],
            [work.mail.test for work in ordered],
        )

    async def mark_announced(self, works: Sequence[Work]) -> None:
        """The events of these unfinished mails are published: their due rows may be leased again."""
        ordered = sorted(works, key=_order)
        await self.database.fetch(_ANNOUNCED, [work.id for work in ordered], [work.token for work in ordered])

    async def finish(self, works: Sequence[Work]) -> None:
        """Delete the due rows of finished mails that we hold."""
        await DUE.finish(self.database, [work.due for work in works if work.due])

    async def let_go(self, rows: Sequence[DueRow]) -> None:
        """Give leased due rows back as they were, for anybody to take."""
        if rows:
            await DUE.release(self.database, rows)

    async def postpone(self, row: DueRow, pause: timedelta) -> None:
        """Put a row that cannot be handled here and now ahead."""
        await self.database.fetch(_POSTPONE, row.id, row.token, pause)

    async def put_back(self, works: Sequence[Work]) -> None:
        """Give leased due rows back that we did not write anew, due when their ledger row says."""
        for work in works:
            if work.due:
                await DUE.release(self.database, [work.due], work.entry.due_at)

    async def delete_settled(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` rows settled longer ago than `kept`: no record that could come again is as old.

        One that a parked row still leads to stays, or that row's mail would be new and sent again.
        """
        return await delete_chosen(
            self.database,
            "sender.ledger",
            """
            SELECT ctid FROM sender.ledger AS l
            WHERE created_at < now() - $1::interval AND updated_at < now() - $1::interval AND state = 'settled'
              AND NOT EXISTS (SELECT 1 FROM sender.due AS d WHERE d.id = l.id)
            ORDER BY created_at LIMIT $2
            """,
            kept,
            limit,
        )

    async def delete_cancellations(self, limit: int) -> int:
        """Delete up to `limit` cancellations that no longer take effect."""
        return await delete_chosen(
            self.database,
            "sender.cancellation",
            """
            SELECT ctid FROM sender.cancellation WHERE until < now() ORDER BY until LIMIT $1
            """,
            limit,
        )

    async def keep_cancellations(self, wanted: Sequence[tuple[UUID, str]]) -> None:
        """Keep cancellations (id, account) for their time, and let waiting mail come up at once."""
        ordered = sorted(set(wanted))
        await self.database.fetch(
            _CANCEL, [each for each, _ in ordered], [account for _, account in ordered], KEEP_CANCELLATION
        )


def _write(asked: list[dict[str, Any]]) -> str:
    return orjson.dumps(asked, default=str).decode()  # a token that came from the database is asyncpg's own class


def _ask_claim(work: Work, echoes: dict[int, str]) -> dict[str, Any]:
    entry = work.entry
    echo = echoes.get(id(entry.echo))
    if echo is None:
        echo = echoes[id(entry.echo)] = orjson.dumps(entry.echo).decode()
    return {
        "id": entry.id_text,
        "account": entry.account,
        "digest": entry.digest,
        "message_id": entry.message_id,
        "echo": echo,  # as text: what callers give may hold NUL
        "recipient_count": entry.recipient_count,
        "accepted_at": entry.accepted_at,
        "expires_at": entry.expires_at,
        "token": work.token,
        "recipients": "\n".join(work.mail.recipients).lower(),
    }


def _ask_settle(work: Work) -> dict[str, Any]:
    entry = work.entry
    return {
        "id": entry.id_text,
        "token": work.token,
        "state": entry.state,
        "unknowns": entry.unknowns,
        "results": orjson.dumps(entry.list_results()).decode(),  # as text, too
        "retry_at": entry.retry_at,
    }


def _order(work: Work) -> int:
    """As PostgreSQL orders ids; a UUID compares itself at ten times the cost of its number."""
    return work.entry.id.int


def _to_entry(row: Any) -> LedgerEntry:
    results = [RecipientResult.from_json(each) for each in row["results"]]
    return LedgerEntry(
        id=row["id"],
        account=row["account"],
        digest=row["digest"],
        message_id=row["message_id"],
        recipient_count=row["recipient_count"],
        accepted_at=row["accepted_at"],
        expires_at=row["expires_at"],
        echo=row["echo"],
        state=LedgerState(row["state"]),
        attempt=row["attempt"],
        unknowns=row["unknowns"],
        retry_at=row["retry_at"],
        results={each.address: each for each in results},
    )


def _to_standing(row: Any) -> Standing:
    return Standing(LedgerState(row["state"]), row["token"], bool(row["lapsed"]), row["retry_due"])
