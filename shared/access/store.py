"""The SQL of the schema `access`."""

from collections.abc import Iterable
from typing import Any

from uuid_utils import uuid7

from shared.access.keys import ApiKey, ApiScope, check_sender, digest_key, hint_of, mint_key
from shared.database import Database

_COLUMNS = "id::text, account, name, hint, scopes, senders, created_at, revoked_at, request_rate, mail_rate"


class UnknownAccount(Exception):
    """There is no account of this name; keys belong to an existing one."""


class AccessStore:
    """Accounts and keys in PostgreSQL. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_key(
        self,
        account: str,
        name: str,
        *,
        scopes: Iterable[ApiScope],
        senders: Iterable[str],
        request_rate: float | None = None,
        mail_rate: float | None = None,
    ) -> tuple[str, ApiKey]:
        """Mint a key; returns the secret, which nobody can find again, and the key.

        Raises UnknownAccount, or ValueError for a sender that is none.
        """
        secret = mint_key()
        rows = await self._database.fetch(
            f"""
            INSERT INTO access.api_keys (id, account, name, hint, digest, scopes, senders, request_rate, mail_rate)
            SELECT $1::text::uuid, a.name, $3, $4, $5, $6, $7, $8, $9 FROM access.accounts a WHERE a.name = $2
            RETURNING {_COLUMNS}
            """,
            str(uuid7()),
            account,
            name,
            hint_of(secret),
            digest_key(secret),
            sorted({scope.value for scope in scopes}),
            list(dict.fromkeys(check_sender(sender) for sender in senders)),
            request_rate,
            mail_rate,
        )
        if not rows:
            raise UnknownAccount(account)
        return secret, _to_key(rows[0])

    async def find_key(self, digest: bytes) -> ApiKey | None:
        """The key with this digest, unless it was revoked."""
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM access.api_keys WHERE digest = $1 AND revoked_at IS NULL", digest
        )
        return _to_key(rows[0]) if rows else None

    async def list_keys(self, account: str | None = None) -> list[ApiKey]:
        """All keys, revoked ones too, oldest first; of one account or of all."""
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM access.api_keys WHERE $1::text IS NULL OR account = $1 ORDER BY created_at, id",
            account,
        )
        return [_to_key(row) for row in rows]

    async def revoke_key(self, key_id: str) -> ApiKey | None:
        """Revoke for good; returns the key, None where there is no such one. Revoking twice keeps the first time."""
        rows = await self._database.fetch(
            f"""
            UPDATE access.api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id::text = $1
            RETURNING {_COLUMNS}
            """,
            key_id,
        )
        return _to_key(rows[0]) if rows else None


def _to_key(row: Any) -> ApiKey:
    return ApiKey(
        id=row["id"],
        account=row["account"],
        name=row["name"],
        hint=row["hint"],
        scopes=frozenset(row["scopes"]),
        senders=tuple(row["senders"]),
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
        request_rate=row["request_rate"],
        mail_rate=row["mail_rate"],
    )
