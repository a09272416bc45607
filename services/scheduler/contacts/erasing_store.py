"""The statements by which a recipient is erased. All times are PostgreSQL's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from services.scheduler.pacing.lane_locks import lock_lanes
from shared.access import ApiKey
from shared.database import Database, text
from shared.events import new_email_id

ERASED = "erased"
"""The reason of a mailing's recipient who was erased before his mail left."""

_DELETE = "WITH gone AS (DELETE FROM {} RETURNING 1) SELECT count(*) FROM gone"
# Whatever became of his mail, what it said goes, and the relay's words, which may name him; of a mailing that was
# deleted since, too. Mail that waits does not leave. What is with the senders, or was and is only to leave once more,
# comes to its end, but has no next round, and no words of its end are kept: there is nothing to do that with (`own`).
_FORGET_MAIL = f"""
    WITH known AS MATERIALIZED (
        SELECT mail.id, mail.state = 'pending' AS waits, mail.state = 'pending' AND mail.handed_at IS NULL AS unsent
        FROM scheduler.bulk_lane AS lane
        JOIN scheduler.bulk_mail AS mail ON mail.lane = lane.id AND mail.recipient = :recipient
        WHERE lane.account = :account AND lane.kind = 'mailing' AND (mail.own IS NOT NULL OR mail.detail IS NOT NULL)
        ORDER BY mail.id FOR UPDATE OF mail),
    gone AS (
        UPDATE scheduler.bulk_mail AS mail
        SET own = NULL, detail = NULL,
            ended_at = CASE WHEN unsent THEN now() ELSE mail.ended_at END,
            reason = CASE WHEN unsent THEN '{ERASED}' ELSE mail.reason END,
            state = CASE WHEN unsent THEN 'skipped' WHEN waits THEN 'deferred' ELSE mail.state END
        FROM known WHERE mail.id = known.id RETURNING mail.lane, waits, unsent),{lock_lanes("gone")},
    counted AS (
        UPDATE scheduler.bulk_lane AS lane
        SET pending = lane.pending - n, skipped = lane.skipped + skipped_n, deferred = lane.deferred + n - skipped_n,
            changed_at = now()
        FROM (SELECT lane, count(*) AS n, count(*) FILTER (WHERE unsent) AS skipped_n FROM gone WHERE waits
              GROUP BY lane) AS waiting JOIN locked ON locked.id = waiting.lane
        WHERE lane.id = waiting.lane)
    SELECT count(*) FROM gone
"""
# A portion of an audience that has been read and is not kept yet may have him in it: it is read again once he is gone.
# A mailing whose time has just come does not begin until then.
_STOP_FREEZING = text(
    """
    UPDATE scheduler.mailing SET freeze_erasures = freeze_erasures + 1, freeze_until = NULL WHERE id = ANY(ARRAY(
        SELECT id FROM scheduler.mailing WHERE account = :account AND frozen_at IS NULL AND finished_at IS NULL
          AND state IN ('scheduled', 'running', 'paused') ORDER BY id FOR UPDATE))
    """
)
_PLACES = {
    "scheduler.contact": _DELETE.format("scheduler.contact WHERE id = :recipient AND account = :account"),
    "scheduler.mailing_list_entry": _DELETE.format(
        "scheduler.mailing_list_entry AS entry USING scheduler.mailing_list AS list"
        " WHERE entry.recipient = :recipient AND list.id = entry.list AND list.account = :account"
    ),
    "scheduler.bulk_mail": _FORGET_MAIL,
}
"""Where a recipient stands in the scheduler's schema, and how he goes from there; each gives a count."""
_NOTE = text(
    """
    INSERT INTO scheduler.erasure (id, recipient, account, api_key_id, erased)
    VALUES (:id, :recipient, :account, :api_key_id, CAST(:erased AS jsonb))
    """
)
_SELECT = "SELECT id, recipient, api_key_id, erased_at, erased FROM scheduler.erasure"


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased: rows by place. It does not say who it was; `recipient` is a hash of account and address."""

    id: UUID
    recipient: UUID
    api_key_id: str
    erased_at: datetime
    erased: Mapping[str, int]


class ErasureStore:
    """Every method raises DatabaseUnavailable, and may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def erase(self, key: ApiKey, recipient: UUID) -> Erasure | None:
        """Erase a recipient of the key's account wherever he is, all or nothing, and keep a record of it.

        The record there is, where nothing was left to erase; None where there never was anything.
        """
        known = {"recipient": recipient, "account": key.account}
        erased: dict[str, int] = {}
        async with self._database.transaction() as connection:
            await connection.execute(_STOP_FREEZING, known)
            for place, statement in _PLACES.items():
                erased[place] = (await connection.execute(text(statement), known)).scalar_one()
            if any(erased.values()):
                noted = {"id": new_email_id(), "api_key_id": key.id, "erased": orjson.dumps(erased).decode()}
                await connection.execute(_NOTE, known | noted)
        rows = await self._database.fetch(
            f"{_SELECT} WHERE recipient = $1 AND account = $2 ORDER BY erased_at DESC LIMIT 1", recipient, key.account
        )
        return _read(rows[0]) if rows else None

    async def find(self, account: str, erasure_id: UUID) -> Erasure | None:
        """One record of this account."""
        rows = await self._database.fetch(f"{_SELECT} WHERE id = $1 AND account = $2", erasure_id, account)
        return _read(rows[0]) if rows else None

    async def list_page(self, account: str, after: tuple[datetime, UUID] | None, limit: int) -> Sequence[Erasure]:
        """Records, newest first, after a position."""
        query = f"""
            {_SELECT} WHERE account = $1 {"AND (erased_at, id) < ($3, $4)" if after else ""}
            ORDER BY erased_at DESC, id DESC LIMIT $2
        """
        return list(map(_read, await self._database.fetch(query, account, limit, *(after or ()))))


def _read(row: Any) -> Erasure:
    return Erasure(*row.values())
