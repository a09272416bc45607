"""How much mail waits in due rows, counted at a bounded price (P9)."""

from dataclasses import dataclass

from shared.database import Database

PAUSED_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """Rows of one kind, and the octets of their events."""

    kind: str
    rows: int
    octets: int


class WaitingStore:
    """Counts due rows through their index by kind."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def count(self, limit: int) -> list[Waiting]:
        """All kinds that count against the bound, up to `limit` rows and one more."""
        rows = await self.database.fetch(
            """
            SELECT kind, count(*) AS rows, coalesce(sum(size), 0)::bigint AS octets
            FROM (SELECT kind, size FROM sender.due WHERE kind <> 'paused' LIMIT $1) AS counted GROUP BY kind
            """,
            limit + 1,
        )
        return [Waiting(row["kind"], row["rows"], row["octets"]) for row in rows]

    async def count_paused(self) -> Waiting:
        """Mail that waits for a pause to end, outside the bound; of millions PAUSED_COUNTED are counted."""
        (row,) = await self.database.fetch(
            """
            SELECT count(*) AS rows, coalesce(sum(size), 0)::bigint AS octets
            FROM (SELECT size FROM sender.due WHERE paused_account IS NOT NULL
                  ORDER BY paused_account, paused_tag, resume_at LIMIT $1) AS counted
            """,
            PAUSED_COUNTED,
        )
        return Waiting("paused", row["rows"], row["octets"])
