"""The statements on mailings as accounts see and change them. All times are PostgreSQL's."""

from typing import Any
from uuid import UUID

from services.scheduler.mailings.audience import Audience
from services.scheduler.mailings.mailing import Hours, Mailing, MailingDefinition, MailingState
from shared.database import Database


class MailingStore:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, account: str, mailing_id: UUID) -> Mailing | None:
        """One mailing of this account."""
        query = "SELECT * FROM scheduler.mailing WHERE account = $1 AND id = $2"
        rows = await self._database.fetch(query, account, mailing_id)
        return read_mailing(rows[0]) if rows else None


def read_mailing(row: Any) -> Mailing:
    """A mailing from its row."""
    definition = MailingDefinition(
        name=row["name"],
        content=row["content"],
        audience=Audience.from_json(row["audience"], row["list"]),
        start_at=row["start_at"],
        finish_at=row["finish_at"],
        hours=Hours.from_json(row["hours"]) if row["hours"] else None,
        rate=row["rate"],
        unsubscribe=row["unsubscribe"],
    )
    return Mailing(
        definition=definition,
        state=MailingState(row["state"]),
        **{
            name: row[name]
            for name in (
                *("id", "account", "api_key_id", "test", "lane", "freeze_cursor", "frozen_at", "recipients"),
                *("revision", "created_at", "changed_at", "started_at", "finished_at"),
            )
        },
    )
