"""The statements on mailings as accounts see and change them. All times are PostgreSQL's."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from services.scheduler.mailings.audience import Audience
from services.scheduler.mailings.hours import Hours
from services.scheduler.mailings.mailing import ADJUSTABLE, EDITABLE, Mailing, MailingDefinition, MailingState
from services.scheduler.pacing.store import TOKENS
from shared.access import ApiKey
from shared.database import Database, DatabaseUnavailable

_FIELDS = ("name", "content", "audience", "list", "start_at", "finish_at", "hours", "rate", "unsubscribe")
_KEPT = (
    *("id", "account", "api_key_id", "test", "lane", "freeze_cursor", "frozen_at", "recipients", "revision"),
    *("created_at", "changed_at", "started_at", "finished_at", "recipients_deleted_at"),
)
# A list stays whole while somebody means to write to it: it is locked until the mailing that names it is there.
_LIST_IS_READY = "SELECT id FROM scheduler.mailing_list WHERE account = $1 AND id = $8 AND state = 'ready' FOR SHARE"
_CREATE = f"""
    WITH list AS ({_LIST_IS_READY})
    INSERT INTO scheduler.mailing (account, id, api_key_id, test, {", ".join(_FIELDS)})
    SELECT $1, $2, $3, $4, {", ".join(f"${number}" for number in range(5, 5 + len(_FIELDS)))}
    WHERE $8::uuid IS NULL OR EXISTS (SELECT FROM list) RETURNING *
"""
_UPDATE = f"""
    WITH list AS ({_LIST_IS_READY})
    UPDATE scheduler.mailing SET {", ".join(f"{name} = ${number}" for number, name in enumerate(_FIELDS, 5))},
           revision = revision + 1, changed_at = now()
    WHERE account = $1 AND id = $2 AND revision = $3 AND state = ANY($4::text[])
      AND ($8::uuid IS NULL OR EXISTS (SELECT FROM list)) RETURNING *
"""
# Its lane with it. What its bucket holds is reckoned up by the rate there was: from now on it fills by the new one.
_ADJUST = f"""
    WITH changed AS (
        UPDATE scheduler.mailing SET name = $4, rate = $5, finish_at = $6, revision = revision + 1, changed_at = now()
        WHERE account = $1 AND id = $2 AND revision = $3 AND state IN ('running', 'paused') AND finished_at IS NULL
        RETURNING *),
    told AS (
        UPDATE scheduler.bulk_lane AS lane
        SET rate = changed.rate, finish_at = changed.finish_at, tokens = least(changed.rate, coalesce({TOKENS}, 1)),
            tokens_at = greatest(lane.tokens_at, now()), changed_at = now()
        FROM changed WHERE lane.id = changed.lane)
    SELECT * FROM changed
"""
_TRIES = 20


class NoSuchList(Exception):
    """The account has no list of this id, or not yet, or not any more."""


class MailingStore:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, mailing_id: UUID, key: ApiKey, definition: MailingDefinition) -> Mailing:
        """Make a draft. Raises NoSuchList."""
        rows = await self._database.fetch(_CREATE, key.account, mailing_id, key.id, key.test, *_write(definition))
        if not rows:
            raise NoSuchList
        return read_mailing(rows[0])

    async def find(self, account: str, mailing_id: UUID) -> Mailing | None:
        """One mailing of this account."""
        query = "SELECT * FROM scheduler.mailing WHERE account = $1 AND id = $2"
        rows = await self._database.fetch(query, account, mailing_id)
        return read_mailing(rows[0]) if rows else None

    async def list_page(
        self, account: str, state: MailingState | None, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[Mailing]:
        """Mailings, newest first, after a position."""
        rows = await self._database.fetch(
            """
            SELECT * FROM scheduler.mailing WHERE account = $1 AND ($2::text IS NULL OR state = $2)
              AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
            ORDER BY created_at DESC, id DESC LIMIT $5
            """,
            account,
            state,
            *(after or (None, None)),
            limit,
        )
        return list(map(read_mailing, rows))

    async def update(
        self, account: str, mailing_id: UUID, change: Callable[[Mailing], MailingDefinition]
    ) -> Mailing | None:
        """Give a mailing the definition that `change` makes of it; None where there is no such mailing.

        Of one that runs only name, rate and end are written.

        `change` is called again where somebody else's edit, or its start, came in between. Raises NoSuchList, and what
        `change` raises.
        """
        for _ in range(_TRIES):
            before = await self.find(account, mailing_id)
            if before is None:
                return None
            after = change(before)
            rows = await self._write(before, after)
            if rows:
                return read_mailing(rows[0])
            if after.audience.list and not await self._has_list(account, after.audience.list):
                raise NoSuchList
        raise DatabaseUnavailable("postgresql: a mailing is edited by too many at once")

    async def _write(self, before: Mailing, after: MailingDefinition) -> Sequence[Any]:
        known = before.account, before.id, before.revision
        if before.state in ADJUSTABLE:
            return await self._database.fetch(_ADJUST, *known, after.name, after.rate, after.finish_at)
        return await self._database.fetch(_UPDATE, *known, [*EDITABLE], *_write(after))

    async def delete(self, account: str, mailing_id: UUID) -> bool:
        """Delete a mailing that has not run, or is over and that was told. False: there is none, or it runs."""
        rows = await self._database.fetch(
            """
            DELETE FROM scheduler.mailing
            WHERE account = $1 AND id = $2 AND (state = ANY($3::text[]) OR told_at IS NOT NULL) RETURNING id
            """,
            account,
            mailing_id,
            [*EDITABLE],
        )
        return bool(rows)

    async def _has_list(self, account: str, list_id: UUID) -> bool:
        query = "SELECT 1 FROM scheduler.mailing_list WHERE account = $1 AND id = $2 AND state = 'ready'"
        return bool(await self._database.fetch(query, account, list_id))


def _write(definition: MailingDefinition) -> tuple[Any, ...]:
    """The values of _FIELDS."""
    return (
        definition.name,
        _write_json(dict(definition.content)),
        _write_json(definition.audience.to_json()),
        definition.audience.list,
        definition.start_at,
        definition.finish_at,
        _write_json(definition.hours.to_json()) if definition.hours else None,
        definition.rate,
        definition.unsubscribe,
    )


def _write_json(value: Any) -> str:
    return orjson.dumps(value).decode()


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
    kept = {name: row[name] for name in _KEPT}
    return Mailing(definition=definition, state=MailingState(row["state"]), **kept)
