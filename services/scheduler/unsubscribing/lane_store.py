"""The statement that tells which lanes' mails have links."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from shared.database import Database


class LinkedMailing(NamedTuple):
    """A mailing that says how to unsubscribe."""

    account: str
    id: UUID


class LaneLinkStore:
    """Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, lanes: Sequence[int]) -> dict[int, LinkedMailing]:
        """Those of the lanes that belong to such a mailing."""
        rows = await self._database.fetch(
            """
            SELECT lane.id AS lane, mailing.account, mailing.id FROM scheduler.bulk_lane AS lane
            JOIN scheduler.mailing AS mailing ON mailing.account = lane.account AND mailing.lane = lane.id
            WHERE lane.id = ANY($1::bigint[]) AND lane.kind = 'mailing' AND mailing.unsubscribe
            """,
            lanes,
        )
        return {row["lane"]: LinkedMailing(row["account"], row["id"]) for row in rows}
