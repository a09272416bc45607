"""What is paused, and the mail that waits for it to end (P9). All times are PostgreSQL's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.sender.pausing import Scope
from services.sender.work import Work
from shared.database import Database

# The claim goes back as if nothing had been tried. The row falls due at the mail's expiry, or at once for a
# cancellation; its own time is kept for when the pause is over. A row that somebody else holds is his.
_PARK = """
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::timestamptz[],
                         $8::timestamptz[], $9::text[], $10::text[], $11::bool[])
        AS t(id, token, due_token, paused_account, paused_tag, event, accepted_at, expires_at, traceparent, account,
             test)),
released AS (
    UPDATE sender.ledger AS l SET state = 'released', token = NULL, lease_until = NULL, updated_at = now()
    FROM asked WHERE l.id = asked.id AND l.token = asked.token)
INSERT INTO sender.due AS d (id, kind, due_at, resume_at, paused_account, paused_tag, event, accepted_at, traceparent,
                             test, lease_token)
SELECT id, 'paused',
       CASE WHEN EXISTS (SELECT 1 FROM sender.cancellation c
                         WHERE c.id = asked.id AND c.account = asked.account AND c.until > now())
            THEN now() ELSE expires_at END,
       now(), paused_account, paused_tag, event, accepted_at, traceparent, test, due_token
FROM asked ORDER BY id
ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, due_at = excluded.due_at,
    resume_at = CASE WHEN d.paused_account IS NULL THEN d.due_at ELSE d.resume_at END,
    paused_account = excluded.paused_account, paused_tag = excluded.paused_tag, lease_token = NULL, lease_until = NULL
WHERE d.lease_token IS NULL OR d.lease_until < now() OR d.lease_token = excluded.lease_token
"""

# Where a statement counts up to a limit, the order keeps the planner at the index, whatever it knows of the table.
# Which scopes have mail waiting: a step through the index for each, however much waits there.
_WAITING_SCOPES = """
WITH RECURSIVE waiting AS (
    (SELECT paused_account AS account, paused_tag AS tag FROM sender.due WHERE paused_account IS NOT NULL
     ORDER BY paused_account, paused_tag LIMIT 1)
    UNION ALL
    SELECT further.* FROM waiting, LATERAL (
        SELECT paused_account, paused_tag FROM sender.due
        WHERE paused_account IS NOT NULL AND (paused_account, paused_tag) > (waiting.account, waiting.tag)
        ORDER BY paused_account, paused_tag LIMIT 1) AS further)
"""

_BRING_BACK = f"""
{_WAITING_SCOPES},
back AS (
    SELECT d.id FROM waiting AS w CROSS JOIN LATERAL (
        SELECT id, resume_at FROM sender.due
        WHERE paused_account = w.account AND paused_tag = w.tag AND (lease_until IS NULL OR lease_until < now())
        ORDER BY resume_at LIMIT $1 FOR UPDATE SKIP LOCKED) AS d
    WHERE NOT EXISTS (SELECT 1 FROM sender.pause AS p WHERE p.account = w.account AND p.tag = w.tag)
    ORDER BY d.resume_at LIMIT $1)
UPDATE sender.due AS d
SET kind = 'parked', due_at = resume_at, paused_account = NULL, paused_tag = NULL, resume_at = NULL
FROM back WHERE d.id = back.id RETURNING d.id
"""

_READY = """
SELECT count(*) AS ready FROM (
    SELECT 1 FROM sender.due WHERE due_at <= now() AND paused_account IS NULL ORDER BY due_at LIMIT $1) AS counted
"""


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause as operators see it. `waiting`: its parked mails, counted up to WAITING_COUNTED."""

    scope: Scope
    reason: str
    since: datetime
    paused_by: str
    waiting: int


WAITING_COUNTED = 10_000


class PauseStore:
    """The sender's statements on pauses."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def list_scopes(self) -> list[Scope]:
        """What is paused."""
        rows = await self.database.fetch("SELECT account, tag FROM sender.pause")
        return [Scope(row["account"], row["tag"]) for row in rows]

    async def list_pauses(self) -> list[Pause]:
        """What is paused, with why, and how much waits."""
        rows = await self.database.fetch(
            """
            SELECT p.*, (SELECT count(*) FROM (
                SELECT 1 FROM sender.due AS d WHERE d.paused_account = p.account AND d.paused_tag = p.tag
                ORDER BY resume_at LIMIT $1
            ) AS counted) AS waiting
            FROM sender.pause AS p ORDER BY account, tag
            """,
            WAITING_COUNTED,
        )
        return [
            Pause(Scope(row["account"], row["tag"]), row["reason"], row["paused_at"], row["paused_by"], row["waiting"])
            for row in rows
        ]

    async def pause(self, scope: Scope, reason: str, paused_by: str) -> bool:
        """Pause; False where it was paused already: who paused first, and why, stays."""
        rows = await self.database.fetch(
            """
            INSERT INTO sender.pause (account, tag, reason, paused_by) VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING RETURNING 1
            """,
            scope.account,
            scope.tag,
            reason,
            paused_by,
        )
        return bool(rows)

    async def resume(self, scope: Scope) -> bool:
        """End a pause; False where there was none. Its mail is brought back by the workers."""
        rows = await self.database.fetch(
            "DELETE FROM sender.pause WHERE account = $1 AND tag = $2 RETURNING 1", scope.account, scope.tag
        )
        return bool(rows)

    async def park(self, works: Sequence[tuple[Work, Scope]]) -> None:
        """Give claims back, and keep their mail until the scope is resumed."""
        ordered = sorted(works, key=lambda pair: pair[0].id)
        await self.database.fetch(
            _PARK,
            [work.id for work, _ in ordered],
            [work.token for work, _ in ordered],
            [work.due.token if work.due else None for work, _ in ordered],
            [scope.account for _, scope in ordered],
            [scope.tag for _, scope in ordered],
            [work.mail.to_json() for work, _ in ordered],
            [work.entry.accepted_at for work, _ in ordered],
            [work.entry.expires_at for work, _ in ordered],
            [work.traceparent for work, _ in ordered],
            [work.entry.account for work, _ in ordered],
            [work.mail.test for work, _ in ordered],
        )

    async def bring_back(self, room: int) -> int:
        """Let mail whose pause is over fall due, oldest first, as long as less than `room` is ready to be sent."""
        ready = int((await self.database.fetch(_READY, room))[0]["ready"])
        if ready >= room:
            return 0
        return len(await self.database.fetch(_BRING_BACK, room - ready))
