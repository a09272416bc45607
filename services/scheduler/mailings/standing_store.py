"""The statements that tell how mailings stand: no count ever reads the mails that were sent."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.scheduler.mailings.mailing import MailingState
from services.scheduler.mailings.standing import MailingStanding
from services.scheduler.pacing.states import BulkState
from shared.database import Database

_COUNTS = ", ".join(f"coalesce(lane.{state}, 0) AS {state}" for state in BulkState)
_STANDING = f"""
    SELECT mailing.id, mailing.name, mailing.state AS stands, mailing.started_at, mailing.finished_at, now() AS now,
           mailing.created_at, {_COUNTS},
           (SELECT count(*) FROM scheduler.unsubscription AS gone WHERE gone.mailing = mailing.id) AS unsubscribed
    FROM scheduler.mailing AS mailing LEFT JOIN scheduler.bulk_lane AS lane ON lane.id = mailing.lane
"""


class StandingStore:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, ids: Sequence[UUID]) -> dict[UUID, MailingStanding]:
        """How these mailings stand."""
        rows = await self._database.fetch(f"{_STANDING} WHERE mailing.id = ANY($1::uuid[])", ids)
        return {row["id"]: _read_standing(row) for row in rows}

    async def list_page(
        self, account: str, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[tuple[MailingStanding, datetime]]:
        """An account's mailings, newest first, after a position; each with when it was made."""
        rows = await self._database.fetch(
            f"""
            {_STANDING} WHERE mailing.account = $1
              AND ($2::timestamptz IS NULL OR (mailing.created_at, mailing.id) < ($2, $3::uuid))
            ORDER BY mailing.created_at DESC, mailing.id DESC LIMIT $4
            """,
            account,
            *(after or (None, None)),
            limit,
        )
        return [(_read_standing(row), row["created_at"]) for row in rows]

    async def sum_up(self, account: str) -> tuple[int, dict[BulkState, int]]:
        """How many mailings an account has, and their counters together."""
        sums = ", ".join(f"coalesce(sum(lane.{state}), 0)::bigint AS {state}" for state in BulkState)
        [row] = await self._database.fetch(
            f"""
            SELECT count(*) AS mailings, {sums} FROM scheduler.mailing AS mailing
            LEFT JOIN scheduler.bulk_lane AS lane ON lane.id = mailing.lane WHERE mailing.account = $1
            """,
            account,
        )
        return row["mailings"], {state: row[state.value] for state in BulkState}


def _read_standing(row: Any) -> MailingStanding:
    counts = {state: row[state.value] for state in BulkState}
    return MailingStanding(
        row["id"],
        row["name"],
        MailingState(row["stands"]),
        counts,
        row["unsubscribed"],
        row["started_at"],
        row["finished_at"],
        row["now"],
    )
