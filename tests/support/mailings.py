"""The API of mailings within this process, on a real PostgreSQL, and accounts known to it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx

from services.scheduler.api import create_api
from services.scheduler.contacts.identity import identify_recipient
from services.scheduler.mailings.mailing import Mailing, MailingDefinition, MailingState
from services.scheduler.settings import ApiSettings
from shared.access import AccessStore, ApiScope
from shared.database import Database

CONTENT = {
    "from": "Shop <news@example.com>",
    "subject": "Hello {{ name }}",
    "text": "Your {{ plan }} plan{% if city is defined %} in {{ city }}{% endif %}.",
}


def keep_mailing(definition: MailingDefinition, at: datetime, **fields: Any) -> Mailing:
    """A mailing as it is kept: a draft made at that time, but for `fields`."""
    draft = Mailing(
        id=UUID(int=7),
        account="shop",
        api_key_id="k",
        test=False,
        definition=definition,
        state=MailingState.DRAFT,
        lane=None,
        freeze_cursor=None,
        frozen_at=None,
        recipients=0,
        revision=0,
        created_at=at,
        changed_at=at,
        started_at=None,
        finished_at=None,
        recipients_deleted_at=None,
    )
    return replace(draft, **fields)


@dataclass(frozen=True)
class Account:
    """An account's key, and its rows."""

    client: httpx.AsyncClient
    database: Database
    name: str
    secret: str

    async def ask(self, method: str, path: str, *, expect: int, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.secret}", **options.pop("headers", {})}
        answer = await self.client.request(method, path, headers=headers, **options)
        assert answer.status_code == expect, answer.text
        return answer.json() if answer.content else None

    async def refuse(self, method: str, path: str, body: Any) -> list[str]:
        """The pointers of a 422."""
        document = await self.ask(method, path, expect=422, json=body)
        assert all(error["detail"] for error in document["errors"])
        return [error["pointer"] for error in document["errors"]]

    async def create(self, **fields: Any) -> Any:
        """A mailing that was made."""
        body = {"name": "Spring", "content": CONTENT, "audience": {}, **fields}
        return await self.ask("POST", "/v1/mailings", expect=201, json=body)

    async def add_contact(self, address: str, name: str = "", tags: tuple[str, ...] = (), /, **attributes: Any) -> UUID:
        recipient = identify_recipient(self.name, address)
        await self.database.fetch(
            "INSERT INTO scheduler.contact (id, account, address, name, tags, attributes) VALUES ($1,$2,$3,$4,$5,$6)",
            recipient,
            self.name,
            address,
            name,
            sorted(tags),
            json.dumps(attributes),
        )
        return recipient

    async def check(self, mailing: Any) -> Any:
        return await self.ask("POST", f"/v1/mailings/{mailing['id']}/check", expect=200)

    async def set(self, mailing: Any, assignment: str) -> None:
        """Have the engine act."""
        await self.database.fetch(f"UPDATE scheduler.mailing SET {assignment} WHERE id = $1", UUID(mailing["id"]))


class World:
    """The API, and accounts known to it."""

    def __init__(self, client: httpx.AsyncClient, database: Database) -> None:
        self._client = client
        self._database = database

    async def open(self, name: str = "", **options: Any) -> Account:
        account = name or f"a-{uuid4().hex[:8]}"
        await self._database.fetch("INSERT INTO access.accounts (name) VALUES ($1) ON CONFLICT DO NOTHING", account)
        rights = {"scopes": [ApiScope.MAILINGS_ADMIN], "senders": ["*@example.com"], **options}
        secret, _ = await AccessStore(self._database).create_key(account, "back office", **rights)
        return Account(self._client, self._database, account, secret)


@asynccontextmanager
async def open_world(database_url: str, **settings: Any) -> AsyncIterator[World]:
    """An API of a test's own; what tests before it have made is there."""
    app = create_api(ApiSettings(database_url=database_url, **settings))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    database = Database(database_url, pool_size=1)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield World(client, database)
    await database.close()
