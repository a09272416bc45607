"""Every SQL statement on idempotency keys. All times are PostgreSQL's. Every method raises DatabaseUnavailable."""

from dataclasses import dataclass
from datetime import UTC, timedelta
from enum import Enum
from uuid import UUID, uuid4

from shared.cleaning import delete_chosen
from shared.composing.composer import Identity
from shared.database import Database, DatabaseUnavailable

KEPT = timedelta(hours=24)
LEASE = timedelta(seconds=10)
"""Longer than waiting for the claim and for Kafka's acknowledgement together."""

_CLAIM_ROUNDS = 5
# One statement, so that of many who ask at once one has the claim. An answer that is there stays; a claim that is over
# passes to the next who asks the same. The last part sees what was there when the statement began: it may find nothing
# where the winner was not there yet.
_CLAIM = """
    WITH claimed AS (
        INSERT INTO gateway.idempotency_keys AS kept (account, key, fingerprint, id, requested_at, token, lease_until)
        VALUES ($1, $2, $3, $4, $5, $6, now() + $7::interval)
        ON CONFLICT (account, key) DO UPDATE SET
            token = excluded.token, lease_until = excluded.lease_until, tries = kept.tries + 1
        WHERE kept.fingerprint = excluded.fingerprint AND kept.status IS NULL AND kept.lease_until <= now()
            AND kept.created_at > now() - $8::interval
        RETURNING *)
    SELECT true AS ours, false AS expired, * FROM claimed
    UNION ALL
    SELECT false, created_at <= now() - $8::interval, * FROM gateway.idempotency_keys
    WHERE account = $1 AND key = $2 AND NOT EXISTS (SELECT FROM claimed)
"""
_OF_KEY = "WHERE account = $1 AND key = $2"
_MINE = f"{_OF_KEY} AND token = $3"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request under a key. `identity` is for the case that the key is new."""

    account: str
    key: str
    fingerprint: bytes
    identity: Identity


@dataclass(frozen=True, slots=True)
class Claim:
    """The request is ours to carry out, as `identity`. `is_first`: nobody has had this claim before."""

    account: str
    key: str
    token: UUID
    identity: Identity
    is_first: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What the first request was answered for good."""

    status: int
    location: str | None
    body: bytes


class Taken(Enum):
    """Why there is nothing to do and nothing to answer."""

    IN_FLIGHT = "somebody else is at it"
    OTHER_PAYLOAD = "the key belongs to another request"


class KeyStore:
    """The table `gateway.idempotency_keys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, wanted: Wanted) -> Claim | Answer | Taken:
        """Take the key, unless it is taken."""
        token = uuid4()
        identity = (wanted.identity.id, wanted.identity.requested_at)
        asked = (wanted.account, wanted.key, wanted.fingerprint, *identity, token, LEASE, KEPT)
        for _ in range(_CLAIM_ROUNDS):
            for row in await self._database.fetch(_CLAIM, *asked):
                if row["expired"]:
                    await self._forget_expired(wanted)
                elif row["ours"]:
                    kept = Identity(UUID(int=row["id"].int), row["requested_at"].astimezone(UTC))
                    return Claim(wanted.account, wanted.key, token, kept, row["tries"] == 1)
                elif bytes(row["fingerprint"]) != wanted.fingerprint:
                    return Taken.OTHER_PAYLOAD
                elif row["status"] is not None:
                    return Answer(row["status"], row["location"], bytes(row["answer"]))
                else:
                    return Taken.IN_FLIGHT
        raise DatabaseUnavailable("postgresql: the key changed hands again and again")

    async def _forget_expired(self, wanted: Wanted) -> None:
        sql = f"DELETE FROM gateway.idempotency_keys {_OF_KEY} AND created_at <= now() - $3::interval"
        await self._database.fetch(sql, wanted.account, wanted.key, KEPT)

    async def answer(self, claim: Claim, answer: Answer) -> None:
        """From now on the key stands for this answer, unless somebody else has taken the claim over."""
        sql = f"UPDATE gateway.idempotency_keys SET status = $4, location = $5, answer = $6 {_MINE}"
        await self._change(sql, claim, answer.status, answer.location, answer.body)

    async def release(self, claim: Claim) -> None:
        """We have published nothing: the next who asks may act at once; as the same mail where another may have."""
        if claim.is_first:
            await self._change(f"DELETE FROM gateway.idempotency_keys {_MINE}", claim)
        else:
            await self.reopen(claim)

    async def reopen(self, claim: Claim) -> None:
        """The next who asks may act at once, as the same mail."""
        await self._change(f"UPDATE gateway.idempotency_keys SET lease_until = now() {_MINE}", claim)

    async def _change(self, sql: str, claim: Claim, *args: object) -> None:
        await self._database.fetch(sql, claim.account, claim.key, claim.token, *args)


async def delete_keys(database: Database, limit: int) -> int:
    """Delete up to `limit` keys that have been kept for long enough."""
    chosen = """
        SELECT ctid FROM gateway.idempotency_keys WHERE created_at <= now() - $1::interval ORDER BY created_at LIMIT $2
    """
    return await delete_chosen(database, "gateway.idempotency_keys", chosen, KEPT, limit)
