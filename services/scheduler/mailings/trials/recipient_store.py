"""The statements by which an audience is looked at before anything is sent to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.scheduler.mailings.audience import Audience
from services.scheduler.mailings.audience_store import write_source
from services.scheduler.mailings.variables import fill_in
from services.scheduler.unsubscribing.condition_store import is_unsubscribed
from shared.database import Database

_FIELDS = "recipient, address, name, variables"
_UNSUBSCRIBED = is_unsubscribed("source.recipient")


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody of an audience. `variables`: attributes, or what the list's row says."""

    id: UUID
    address: str
    name: str
    variables: dict[str, Any]

    def fill_in(self) -> dict[str, Any]:
        """What the templates may speak of."""
        return fill_in(self.address, self.name, self.variables)


@dataclass(frozen=True, slots=True)
class AudienceCount:
    """How many there are; `lacking` of each variable, in the order they were asked for."""

    recipients: int
    unsubscribed: int
    lacking: tuple[int, ...]


class RecipientStore:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, account: str, audience: Audience, variables: Sequence[str]) -> AudienceCount:
        """Count an audience, and who in it lacks each variable. Reads all of it: a second or two for a million."""
        source = write_source(account, audience)
        first = len(source.args) + 1
        lacking = [
            f"count(*) FILTER (WHERE NOT source.variables ? ${number}) AS lacking_{number}"
            for number in range(first, first + len(variables))
        ]
        counted = ["count(*) AS recipients", f"count(*) FILTER (WHERE {_UNSUBSCRIBED}) AS unsubscribed", *lacking]
        rows = await self._database.fetch(
            f"SELECT {', '.join(counted)} FROM ({source.sql}) AS source", *source.args, *variables
        )
        recipients, unsubscribed, *counts = rows[0].values()
        return AudienceCount(recipients, unsubscribed, tuple(counts))

    async def count_by_zone(self, account: str, audience: Audience) -> dict[str | None, int]:
        """How many there are in each time zone; None: theirs is not known."""
        source = write_source(account, audience)
        rows = await self._database.fetch(
            f"SELECT zone, count(*) FROM ({source.sql}) AS source GROUP BY zone", *source.args
        )
        return {row["zone"]: row["count"] for row in rows}

    async def is_empty(self, account: str, audience: Audience) -> bool:
        """Whether nobody is in it."""
        source = write_source(account, audience)
        return not await self._database.fetch(f"SELECT 1 FROM ({source.sql}) AS source LIMIT 1", *source.args)

    async def list_some(self, account: str, audience: Audience, limit: int) -> list[Recipient]:
        """Some of an audience, always the same. Ids are hashes, so they are as good as drawn by lot."""
        source = write_source(account, audience)
        rows = await self._database.fetch(
            f"SELECT {_FIELDS} FROM ({source.sql}) AS source ORDER BY recipient LIMIT ${len(source.args) + 1}",
            *source.args,
            limit,
        )
        return [Recipient(*row.values()) for row in rows]

    async def find(self, account: str, audience: Audience, recipient: UUID) -> Recipient | None:
        """One of an audience."""
        source = write_source(account, audience)
        rows = await self._database.fetch(
            f"SELECT {_FIELDS} FROM ({source.sql}) AS source WHERE recipient = ${len(source.args) + 1}",
            *source.args,
            recipient,
        )
        return Recipient(*rows[0].values()) if rows else None
