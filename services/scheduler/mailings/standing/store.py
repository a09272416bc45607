"""The statements that tell how mailings stand: no count ever reads the mails that were sent."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.scheduler.mailings.mailing import MailingState
from services.scheduler.mailings.standing.standing import MailingStanding
from services.scheduler.pacing.pace import Pace
from services.scheduler.pacing.states import BulkState
from shared.database import Database

_COUNTS = ", ".join(f"coalesce(lane.{state}, 0) AS {state}" for state in BulkState)
_STANDING = f"""
    SELECT mailing.id, mailing.account, mailing.test, mailing.revision, mailing.name, mailing.state AS stands,
           mailing.created_at, greatest(mailing.changed_at, lane.changed_at) AS changed_at, mailing.started_at,
           mailing.frozen_at, mailing.finished_at, mailing.pace, mailing.sampled_at, mailing.sampled_ended,
           now() AS now, {_COUNTS},
           (SELECT count(*) FROM scheduler.unsubscription AS gone WHERE gone.mailing = mailing.id) AS unsubscribed
    FROM scheduler.mailing AS mailing LEFT JOIN scheduler.bulk_lane AS lane ON lane.id = mailing.lane
"""
_KEPT = (
    "id",
    "account",
    "test",
    "revision",
    "name",
    "unsubscribed",
    "created_at",
    "changed_at",
    "started_at",
    "frozen_at",
    "finished_at",
    "now",
)


class StandingStore:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, ids: Sequence[UUID]) -> dict[UUID, MailingStanding]:
        """How these mailings stand."""
        rows = await self._database.fetch(f"{_STANDING} WHERE mailing.id = ANY($1::uuid[])", ids)
        return {row["id"]: _read_standing(row) for row in rows}

    async def sample(self, ids: Sequence[UUID]) -> dict[UUID, tuple[MailingStanding, float]]:
        """The same, and the seconds since each was sampled last."""
        found = await self.find(ids)
        return {
            each.id: (each, (each.now - each.pace.at).total_seconds() if each.pace.at else 0.0)
            for each in found.values()
        }

    async def list_page(self, account: str, after: tuple[datetime, UUID] | None, limit: int) -> list[MailingStanding]:
        """An account's mailings, newest first, after a position."""
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
        return list(map(_read_standing, rows))

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
    kept = {name: row[name] for name in _KEPT}
    pace = Pace(row["pace"], row["sampled_at"], row["sampled_ended"])
    return MailingStanding(state=MailingState(row["stands"]), counts=counts, pace=pace, **kept)
