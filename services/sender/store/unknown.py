"""Mail of unknown outcome that waits for an operator, and what he decides (P6). All times are PostgreSQL's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.sender.settling import Decided, Intent
from shared.cleaning import delete_chosen
from shared.database import Database

_HELD = "d.kind = 'held' AND l.state = 'held'"
_SHOWN = """
    l.id, l.account, l.message_id, l.attempt, l.unknowns, l.results, l.accepted_at, l.updated_at AS since, l.expires_at,
    d.intent
"""
_MATCHING = f"""
    FROM sender.due AS d JOIN sender.ledger AS l USING (id)
    WHERE {_HELD} AND ($1::text IS NULL OR l.account = $1)
      AND ($2::interval IS NULL OR l.updated_at < now() - $2::interval)
      AND ($3::text IS NULL OR EXISTS (
            SELECT 1 FROM json_array_elements(l.results) AS r
            WHERE r->>'state' = 'unknown' AND r->>'relay' = $3))
"""

# One decision for each time the mail came to be held. Asked for again it is not taken again, but acted on at once if
# nobody has yet. Whoever holds the row loses it: what he writes back must not put it off.
_DECIDE = """
, noted AS (
    INSERT INTO sender.decision AS known (id, attempt, intent, note, decided_by)
    SELECT id, attempt, {intent}, {note}, {by} FROM chosen ORDER BY id
    ON CONFLICT (id) DO UPDATE SET attempt = excluded.attempt, intent = excluded.intent, note = excluded.note,
        decided_by = excluded.decided_by, decided_at = now()
    WHERE known.attempt <> excluded.attempt OR known.intent = excluded.intent
    RETURNING id, intent, note)
UPDATE sender.due AS d
SET intent = noted.intent, intent_note = noted.note, due_at = now(), lease_token = NULL, lease_until = NULL
FROM noted WHERE d.id = noted.id AND d.kind = 'held' RETURNING d.id
"""

_DECIDE_ON_ONE = """
WITH chosen AS (SELECT id, attempt FROM sender.ledger WHERE id = $1 AND state = 'held' FOR UPDATE)
""" + _DECIDE.format(intent="$2", note="$3", by="$4")

_DECIDE_ON_MANY = f"""
WITH chosen AS (
    SELECT l.id, l.attempt {_MATCHING} AND d.intent IS NULL
      AND ($5::text <> 'resend' OR NOT EXISTS (
            SELECT 1 FROM sender.cancellation AS c
            WHERE c.id = l.id AND c.account = l.account AND c.until > now()))
    ORDER BY d.accepted_at, d.id LIMIT $4 FOR UPDATE OF l)
""" + _DECIDE.format(intent="$5::text", note="$6", by="$7")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which held mails are meant; all that is given must hold. `held_for`: at least so long."""

    account: str | None = None
    relay: str | None = None
    held_for: timedelta | None = None


@dataclass(frozen=True, slots=True)
class HeldMail:
    """A mail that waits for an operator, as the ledger knows it. `results` as stored, a dict for each recipient."""

    id: UUID
    account: str
    message_id: str
    attempt: int
    unknowns: int
    accepted_at: datetime
    since: datetime
    expires_at: datetime
    results: list[dict[str, Any]]
    intent: Intent | None


class UnknownStore:
    """The sender's statements on held mail."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def list_held(self, chosen: Filter, after: tuple[datetime, UUID] | None, limit: int) -> list[HeldMail]:
        """Held mails in the order of their acceptance, from behind `after` (accepted_at, id)."""
        rows = await self.database.fetch(
            f"""
            SELECT {_SHOWN} {_MATCHING} AND ($4::timestamptz IS NULL OR (d.accepted_at, d.id) > ($4, $5))
            ORDER BY d.accepted_at, d.id LIMIT $6
            """,
            *_spread(chosen),
            *(after or (None, None)),
            limit,
        )
        return [_to_held(row) for row in rows]

    async def find_held(self, email_id: UUID) -> HeldMail | None:
        """One held mail; None where it is not held."""
        rows = await self.database.fetch(
            f"""
            SELECT {_SHOWN} FROM sender.due AS d JOIN sender.ledger AS l USING (id) WHERE {_HELD} AND l.id = $1
            """,
            email_id,
        )
        return _to_held(rows[0]) if rows else None

    async def decide(self, email_id: UUID, intent: Intent, note: str, decided_by: str) -> bool:
        """Decide on one held mail; False where it is not held, or something else was decided. See `find_decided`."""
        return bool(await self.database.fetch(_DECIDE_ON_ONE, email_id, intent.value, note, decided_by))

    async def decide_on(self, chosen: Filter, intent: Intent, note: str, decided_by: str, limit: int) -> Sequence[UUID]:
        """Decide on up to `limit` held mails nothing was decided on yet, oldest first; returns which."""
        rows = await self.database.fetch(_DECIDE_ON_MANY, *_spread(chosen), limit, intent.value, note, decided_by)
        return [UUID(int=row["id"].int) for row in rows]

    async def find_decided(self, email_id: UUID) -> Decided | None:
        """Where a mail stands; None where the ledger does not know it."""
        rows = await self.database.fetch(
            """
            SELECT l.state, l.attempt, known.intent, known.attempt AS decided_on
            FROM sender.ledger AS l LEFT JOIN sender.decision AS known USING (id) WHERE l.id = $1
            """,
            email_id,
        )
        if not rows:
            return None
        row = rows[0]
        return Decided(row["state"], row["attempt"], _to_intent(row["intent"]), row["decided_on"])

    async def is_cancelled(self, email_id: UUID) -> bool:
        """Whether its account wants it cancelled."""
        rows = await self.database.fetch(
            """
            SELECT 1 FROM sender.ledger AS l JOIN sender.cancellation AS c USING (id, account)
            WHERE l.id = $1 AND c.until > now()
            """,
            email_id,
        )
        return bool(rows)

    async def delete_decisions(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` decisions older than `kept`."""
        return await delete_chosen(
            self.database,
            "sender.decision",
            """
            SELECT ctid FROM sender.decision AS known WHERE decided_at < now() - $1::interval
              AND NOT EXISTS (SELECT 1 FROM sender.due AS d WHERE d.id = known.id)
            ORDER BY decided_at LIMIT $2
            """,
            kept,
            limit,
        )


def _spread(chosen: Filter) -> tuple[str | None, timedelta | None, str | None]:
    return chosen.account, chosen.held_for, chosen.relay


def _to_intent(value: str | None) -> Intent | None:
    return Intent(value) if value else None


def _to_held(row: Any) -> HeldMail:
    return HeldMail(
        id=UUID(int=row["id"].int),
        account=row["account"],
        message_id=row["message_id"],
        attempt=row["attempt"],
        unknowns=row["unknowns"],
        accepted_at=row["accepted_at"],
        since=row["since"],
        expires_at=row["expires_at"],
        results=row["results"],
        intent=_to_intent(row["intent"]),
    )
