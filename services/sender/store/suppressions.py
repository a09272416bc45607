"""Addresses that are not written to. An address is kept in the form that the claim compares: see suppressing.py."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.cleaning import delete_chosen
from shared.database import Database

_COLUMNS = "account, address, reason, until, created_at"
_PAGE = 2000

_ADD = """
INSERT INTO sender.suppression AS known (account, address, reason, until)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) AS t(account, address, reason, until)
ORDER BY account, address
"""
_REPLACE = f"""{_ADD}
ON CONFLICT (account, address) DO UPDATE SET reason = excluded.reason, until = excluded.until
RETURNING {_COLUMNS}
"""
# What an operator has written is not shortened, and no reason of his replaced.
_NOTE = """
INSERT INTO sender.suppression AS known (account, address, reason, until)
SELECT account, address, $3, now() + $4::interval FROM unnest($1::text[], $2::text[]) AS t(account, address)
ORDER BY account, address
ON CONFLICT (account, address) DO UPDATE SET reason = excluded.reason, until = excluded.until, created_at = now()
WHERE known.until < now()
"""


@dataclass(frozen=True, slots=True)
class Suppression:
    """One address that an account does not write to, until a time or for good."""

    account: str
    address: str
    reason: str
    until: datetime | None
    created_at: datetime | None = None  # PostgreSQL's, once it is kept


class SuppressionStore:
    """The sender's statements on suppressions."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def list_some(
        self, account: str | None, address: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Suppression]:
        """Suppressions in force, in the order of account and address, from behind `after`."""
        conditions, args = ["(until IS NULL OR until > now())"], []
        for condition, value in (("account = $%d", account), ("address = $%d", address)):
            if value is not None:
                args.append(value)
                conditions.append(condition % len(args))
        if after:
            args += after
            conditions.append(f"(account, address) > (${len(args) - 1}, ${len(args)})")
        rows = await self.database.fetch(
            f"SELECT {_COLUMNS} FROM sender.suppression WHERE {' AND '.join(conditions)} "
            f"ORDER BY account, address LIMIT ${len(args) + 1}",
            *args,
            limit,
        )
        return [Suppression(**row) for row in rows]

    async def read_all(self, account: str | None) -> AsyncIterator[Suppression]:
        """All in force, of one account or of all, page by page."""
        after: tuple[str, str] | None = None
        while True:
            page = await self.list_some(account, None, after, _PAGE)
            for each in page:
                yield each
            if len(page) < _PAGE:
                return
            after = page[-1].account, page[-1].address

    async def add(self, wanted: Sequence[Suppression]) -> list[Suppression]:
        """Add or replace; of one named twice the last counts. Returns what is kept."""
        unique = {(each.account, each.address): each for each in wanted}
        rows = await self.database.fetch(
            _REPLACE,
            [each.account for each in unique.values()],
            [each.address for each in unique.values()],
            [each.reason for each in unique.values()],
            [each.until for each in unique.values()],
        )
        return [Suppression(**row) for row in rows]

    async def note(self, addresses: set[tuple[str, str]], reason: str, lasting: timedelta) -> None:
        """Add (account, address) for `lasting`, where nothing is in force yet."""
        ordered = sorted(addresses)
        await self.database.fetch(
            _NOTE, [account for account, _ in ordered], [address for _, address in ordered], reason, lasting
        )

    async def remove(self, account: str, address: str) -> bool:
        """Remove one; False where there was none."""
        rows = await self.database.fetch(
            "DELETE FROM sender.suppression WHERE account = $1 AND address = $2 RETURNING 1", account, address
        )
        return bool(rows)

    async def delete_ended(self, limit: int) -> int:
        """Delete up to `limit` that no longer take effect."""
        return await delete_chosen(
            self.database,
            "sender.suppression",
            "SELECT ctid FROM sender.suppression WHERE until < now() ORDER BY until LIMIT $1",
            limit,
        )
