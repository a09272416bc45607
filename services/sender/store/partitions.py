"""Who reads which partition, and what was skipped there (R4)."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from services.sender.suspects import Suspicion
from shared.database import Database

Verdict = Literal["skip", "release"]


@dataclass(frozen=True, slots=True)
class Suspect:
    """A record that has ended processes, as operators see it."""

    partition: int
    offset: int
    deaths: int
    skipped: bool


class PartitionStore:
    """Who reads which partition of `email.requested`, and what was skipped there (R4)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, topic: str, partition: int) -> tuple[Suspicion, UUID | None]:
        """What is known of a partition, and the name of whoever has not left it."""
        rows = await self._database.fetch(
            "SELECT * FROM sender.reading WHERE topic = $1 AND partition = $2", topic, partition
        )
        if not rows:
            return Suspicion(), None
        row = rows[0]
        return Suspicion(row["suspect"], row["deaths"], row["trying"], row["careful_until"]), row["holder"]

    async def enter(self, topic: str, partition: int, suspicion: Suspicion, holder: UUID) -> None:
        """`holder` reads the partition from now on."""
        await self._database.fetch(
            """
            INSERT INTO sender.reading (topic, partition, holder, suspect, deaths, trying, careful_until)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (topic, partition) DO UPDATE SET holder = excluded.holder, suspect = excluded.suspect,
                deaths = excluded.deaths, trying = excluded.trying, careful_until = excluded.careful_until,
                updated_at = now()
            """,
            topic,
            partition,
            holder,
            *_spread(suspicion),
        )

    async def save(self, topic: str, partition: int, suspicion: Suspicion, holder: UUID) -> None:
        """What `holder` has learnt; nothing where somebody else reads the partition by now."""
        await self._database.fetch(
            """
            UPDATE sender.reading SET suspect = $4, deaths = $5, trying = $6, careful_until = $7, updated_at = now()
            WHERE topic = $1 AND partition = $2 AND holder = $3
            """,
            topic,
            partition,
            holder,
            *_spread(suspicion),
        )

    async def leave(self, holder: UUID) -> None:
        """`holder` reads nothing any more, by its own will."""
        await self._database.fetch("UPDATE sender.reading SET holder = NULL WHERE holder = $1", holder)

    async def list_suspects(self, topic: str) -> list[Suspect]:
        """Records that may have ended at least two processes."""
        rows = await self._database.fetch(
            """
            SELECT r.partition, r.suspect, r.deaths, s.topic IS NOT NULL AS skipped
            FROM sender.reading r LEFT JOIN sender.verdict s
                 ON s.topic = r.topic AND s.partition = r.partition AND s."offset" = r.suspect
            WHERE r.topic = $1 AND r.suspect IS NOT NULL AND r.deaths > 1 ORDER BY r.partition
            """,
            topic,
        )
        return [Suspect(row["partition"], row["suspect"], row["deaths"], row["skipped"]) for row in rows]

    async def decide(self, topic: str, partition: int, offset: int, verdict: Verdict) -> None:
        """Mark a record as given up or as to be read again; whoever holds it sees that within a second."""
        await self._database.fetch(
            """
            INSERT INTO sender.verdict (topic, partition, "offset", verdict) VALUES ($1, $2, $3, $4)
            ON CONFLICT (topic, partition, "offset") DO UPDATE SET verdict = excluded.verdict, asked_at = now()
            """,
            topic,
            partition,
            offset,
            verdict,
        )

    async def find_verdict(self, topic: str, partition: int, offset: int) -> Verdict | None:
        """What an operator has decided on this record; `release` holds once."""
        rows = await self._database.fetch(
            """
            WITH once AS (DELETE FROM sender.verdict
                          WHERE topic = $1 AND partition = $2 AND "offset" = $3 AND verdict = 'release')
            SELECT verdict FROM sender.verdict WHERE topic = $1 AND partition = $2 AND "offset" = $3
            """,
            topic,
            partition,
            offset,
        )
        return rows[0]["verdict"] if rows else None


def _spread(suspicion: Suspicion) -> tuple[int | None, int, int | None, int]:
    return suspicion.suspect, suspicion.deaths, suspicion.trying, suspicion.careful_until
