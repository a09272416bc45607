"""The SQL of the schema `access`."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from uuid_utils import uuid7

from shared.access.keys import ApiKey, ApiScope, check_sender, digest_key, hint_of, mint_key
from shared.access.rows import COLUMNS, USABLE, KeyChange, order_scopes, to_key
from shared.database import Database
from shared.settings import Network

# Who could still administer the account's keys, without the key $1. Their rows are locked, so that of two requests
# that each take one away the second sees what the first has done.
_ADMINS = f"""
WITH admins AS (
    SELECT k.id::text FROM access.api_keys k JOIN access.api_keys mine ON mine.account = k.account
    WHERE mine.id::text = $1 AND 'keys:admin' = ANY(k.scopes) AND {USABLE}
      AND (mine.test OR NOT k.test)
    ORDER BY k.id FOR UPDATE OF k)"""


class UnknownAccount(Exception):
    """There is no account of this name; keys belong to an existing one."""


class LastAdminKey(Exception):
    """Nobody could administer the account's keys over HTTP any more."""


class KeyNotUsable(Exception):
    """The key is revoked or has expired."""


class Account(NamedTuple):
    """An account, and how many of its keys work."""

    name: str
    created_at: datetime
    keys: int


class AccessStore:
    """Accounts and keys in PostgreSQL. Every method raises DatabaseUnavailable.

    Where a method takes an `account`, it knows that account's keys only; None stands for all.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_key(
        self,
        account: str,
        name: str,
        *,
        scopes: Iterable[ApiScope],
        senders: Iterable[str],
        networks: Iterable[Network] = (),
        test: bool = False,
        expires_at: datetime | None = None,
        request_rate: float | None = None,
        mail_rate: float | None = None,
    ) -> tuple[str, ApiKey]:
        """Mint a key; returns the secret, which nobody can find again, and the key.

        Raises UnknownAccount, or ValueError for a sender that is none.
        """
        secret = mint_key()
        rows = await self._database.fetch(
            f"""
            INSERT INTO access.api_keys
                (id, account, name, hint, digest, scopes, senders, networks, test, expires_at, request_rate, mail_rate)
            SELECT $1::text::uuid, a.name, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12
            FROM access.accounts a WHERE a.name = $2
            RETURNING {COLUMNS}
            """,
            str(uuid7()),
            account,
            name,
            hint_of(secret),
            digest_key(secret),
            order_scopes(scopes),
            list(dict.fromkeys(check_sender(sender) for sender in senders)),
            list(dict.fromkeys(networks)),
            test,
            expires_at,
            request_rate,
            mail_rate,
        )
        if not rows:
            raise UnknownAccount(account)
        return secret, to_key(rows[0])

    async def find_key(self, digest: bytes) -> ApiKey | None:
        """The key with this digest, unless it was revoked or has expired."""
        rows = await self._database.fetch(
            f"SELECT {COLUMNS} FROM access.api_keys AS k WHERE digest = $1 AND {USABLE}", digest
        )
        return to_key(rows[0]) if rows else None

    async def read_key(self, key_id: str, account: str | None = None) -> ApiKey | None:
        """The key with this id, whatever its state."""
        rows = await self._database.fetch(
            f"SELECT {COLUMNS} FROM access.api_keys WHERE id::text = $1 AND ($2::text IS NULL OR account = $2)",
            key_id,
            account,
        )
        return to_key(rows[0]) if rows else None

    async def list_keys(self, account: str | None = None) -> list[ApiKey]:
        """All keys, revoked ones too, oldest first; of one account or of all."""
        rows = await self._database.fetch(
            f"SELECT {COLUMNS} FROM access.api_keys WHERE $1::text IS NULL OR account = $1 ORDER BY created_at, id",
            account,
        )
        return [to_key(row) for row in rows]

    async def list_page(self, account: str, after: tuple[datetime, UUID] | None, limit: int) -> list[ApiKey]:
        """An account's keys, revoked ones too, newest first: those behind the position."""
        at, key_id = after or (datetime.max.replace(tzinfo=UTC), UUID(int=0))
        rows = await self._database.fetch(
            f"""
            SELECT {COLUMNS} FROM access.api_keys WHERE account = $1 AND (created_at, id) < ($2, $3)
            ORDER BY created_at DESC, id DESC LIMIT $4
            """,
            account,
            at,
            key_id,
            limit,
        )
        return [to_key(row) for row in rows]

    async def change_key(self, key: ApiKey, change: KeyChange) -> ApiKey:
        """Write what is given of a change. Raises LastAdminKey, KeyNotUsable for one that is revoked."""
        scopes = None if change.scopes is None else order_scopes(change.scopes)
        rows = await self._database.fetch(
            f"""
            {_ADMINS}
            UPDATE access.api_keys
            SET name = coalesce($2, name), scopes = coalesce($3, scopes), senders = coalesce($4, senders),
                networks = coalesce($5, networks), expires_at = CASE WHEN $6 THEN $7 ELSE expires_at END,
                request_rate = CASE WHEN $8 THEN $9 ELSE request_rate END,
                mail_rate = CASE WHEN $10 THEN $11 ELSE mail_rate END
            WHERE id::text = $1 AND revoked_at IS NULL
              AND ('keys:admin' = ANY(coalesce($3, scopes)) OR NOT EXISTS (SELECT FROM admins WHERE id = $1)
                   OR EXISTS (SELECT FROM admins WHERE id <> $1))
            RETURNING {COLUMNS}
            """,
            key.id,
            change.name,
            scopes,
            None if change.senders is None else list(change.senders),
            None if change.networks is None else list(change.networks),
            change.ends,
            change.expires_at,
            "request_rate" in change.rates,
            change.rates.get("request_rate"),
            "mail_rate" in change.rates,
            change.rates.get("mail_rate"),
        )
        if rows:
            return to_key(rows[0])
        raise KeyNotUsable(key.id) if await self._is_revoked(key.id) else LastAdminKey(key.account)

    async def rotate_key(
        self, key_id: str, overlap: timedelta, *, account: str | None = None, expires_at: datetime | None = None
    ) -> tuple[str, ApiKey] | None:
        """A new secret under a new id with the same rights; the old one goes on for `overlap`, or to its end.

        Without `expires_at` the new key ends when the old one would have. None: there is no such key. Raises
        KeyNotUsable.
        """
        if await self.read_key(key_id, account) is None:
            return None
        secret = mint_key()
        rows = await self._database.fetch(
            f"""
            WITH old AS (
                SELECT * FROM access.api_keys AS k WHERE id::text = $1 AND {USABLE} FOR UPDATE),
            ending AS (
                UPDATE access.api_keys AS k SET expires_at = least(k.expires_at, now() + $2)
                FROM old WHERE k.id = old.id)
            INSERT INTO access.api_keys
                (id, account, name, hint, digest, scopes, senders, networks, test, request_rate, mail_rate, expires_at,
                 replaces)
            SELECT $3::text::uuid, account, name, $4, $5, scopes, senders, networks, test, request_rate, mail_rate,
                   coalesce($6, expires_at), id FROM old
            RETURNING {COLUMNS}
            """,
            key_id,
            overlap,
            str(uuid7()),
            hint_of(secret),
            digest_key(secret),
            expires_at,
        )
        if not rows:
            raise KeyNotUsable(key_id)
        return secret, to_key(rows[0])

    async def revoke_key(self, key_id: str, *, account: str | None = None, keep_admin: bool = False) -> ApiKey | None:
        """Revoke for good; returns the key, None where there is no such one. Revoking twice keeps the first time.

        Raises LastAdminKey where `keep_admin` is asked for and it is the account's last.
        """
        key = await self.read_key(key_id, account)
        if key is None or key.revoked_at:
            return key
        rows = await self._database.fetch(
            f"""
            {_ADMINS}
            UPDATE access.api_keys SET revoked_at = coalesce(revoked_at, now())
            WHERE id::text = $1 AND (NOT $2 OR NOT EXISTS (SELECT FROM admins WHERE id = $1)
                                     OR EXISTS (SELECT FROM admins WHERE id <> $1))
            RETURNING {COLUMNS}
            """,
            key_id,
            keep_admin,
        )
        if not rows:
            raise LastAdminKey(key.account)
        return to_key(rows[0])

    async def note_uses(self, used: dict[str, float]) -> None:
        """Write when keys were last used (Unix seconds by key id)."""
        ordered = sorted(used)
        await self._database.fetch(
            """
            UPDATE access.api_keys AS k SET last_used_at = greatest(k.last_used_at, to_timestamp(t.at))
            FROM unnest($1::text[], $2::float8[]) AS t(id, at) WHERE k.id = t.id::uuid
            """,
            ordered,
            [used[each] for each in ordered],
        )

    async def create_account(self, name: str) -> bool:
        """Add an account. False: it is there already."""
        rows = await self._database.fetch(
            "INSERT INTO access.accounts (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING name", name
        )
        return bool(rows)

    async def list_accounts(self) -> list[Account]:
        """All accounts by name."""
        rows = await self._database.fetch(
            f"""
            SELECT a.name, a.created_at, count(k.id) AS keys
            FROM access.accounts a LEFT JOIN access.api_keys k ON k.account = a.name AND {USABLE}
            GROUP BY a.name ORDER BY a.name
            """
        )
        return [Account(row["name"], row["created_at"], row["keys"]) for row in rows]

    async def _is_revoked(self, key_id: str) -> bool:
        key = await self.read_key(key_id)
        return key is not None and key.revoked_at is not None
