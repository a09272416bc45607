"""The statements on who gets no mailing any more. All times are PostgreSQL's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from services.scheduler.unsubscribing.links import Link
from shared.database import Database


class Source(StrEnum):
    """How somebody unsubscribed: by the button of a mail program, that of our page, or somebody did it for him."""

    ONE_CLICK = "one-click"
    PAGE = "page"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Unsubscription:
    """One recipient who gets no mailing. `address`: where a contact has it. `mailing`: whose link he used."""

    recipient: UUID
    address: str | None
    mailing: UUID | None
    source: Source
    unsubscribed_at: datetime


class UnsubscriptionStore:
    """Every method raises DatabaseUnavailable and may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, account: str, recipients: Sequence[UUID], source: Source, mailing: UUID | None = None) -> int:
        """Note that they get no mailing any more; returns for how many that is new. The first word stays."""
        rows = await self._database.fetch(
            """
            INSERT INTO scheduler.unsubscription (recipient, account, mailing, source)
            SELECT recipient, $2, $3, $4 FROM unnest($1::uuid[]) AS given(recipient) ORDER BY recipient
            ON CONFLICT (recipient) DO NOTHING RETURNING recipient
            """,
            sorted(set(recipients)),
            account,
            mailing,
            source,
        )
        return len(rows)

    async def remove(self, account: str, recipient: UUID) -> bool:
        """Let a recipient get mailings again. False: he does."""
        query = "DELETE FROM scheduler.unsubscription WHERE recipient = $1 AND account = $2 RETURNING 1"
        return bool(await self._database.fetch(query, recipient, account))

    async def find(self, account: str, recipient: UUID) -> Unsubscription | None:
        """Whether, and since when, a recipient gets none."""
        rows = await self._database.fetch(
            f"{_READ} WHERE gone.recipient = $1 AND gone.account = $2", recipient, account
        )
        return _read(rows[0]) if rows else None

    async def list_page(
        self, account: str, mailing: UUID | None, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[Unsubscription]:
        """Unsubscriptions, newest first, after a position; those by one mailing's links, or all."""
        rows = await self._database.fetch(
            f"""
            {_READ} WHERE gone.account = $1 AND ($2::uuid IS NULL OR gone.mailing = $2)
              AND ($3::timestamptz IS NULL OR (gone.unsubscribed_at, gone.recipient) < ($3, $4::uuid))
            ORDER BY gone.unsubscribed_at DESC, gone.recipient DESC LIMIT $5
            """,
            account,
            mailing,
            *(after or (None, None)),
            limit,
        )
        return list(map(_read, rows))

    async def find_sender(self, link: Link) -> str | None:
        """Whose mailing it was, as its mail says in From; None where the mailing is not known any more."""
        query = "SELECT content->>'from' AS sender FROM scheduler.mailing WHERE id = $1 AND account = $2"
        rows = await self._database.fetch(query, link.mailing, link.account)
        return rows[0]["sender"] if rows else None


_READ = """
    SELECT gone.recipient, contact.address, gone.mailing, gone.source, gone.unsubscribed_at
    FROM scheduler.unsubscription AS gone LEFT JOIN scheduler.contact ON contact.id = gone.recipient
"""


def _read(row: Any) -> Unsubscription:
    return Unsubscription(
        row["recipient"], row["address"], row["mailing"], Source(row["source"]), row["unsubscribed_at"]
    )
