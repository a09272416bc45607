"""GET /v1/scheduled/{id}, on a real PostgreSQL."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx
import pytest

from services.scheduler.api import create_api
from services.scheduler.settings import ApiSettings
from shared.access import AccessStore, ApiScope
from shared.database import Database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def client(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setenv("MILENA_DATABASE_URL", database_url)
    app = create_api(ApiSettings())
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield client


async def create_key(database: Database, account: str, *scopes: ApiScope) -> dict[str, str]:
    await database.fetch("INSERT INTO access.accounts (name) VALUES ($1) ON CONFLICT DO NOTHING", account)
    secret, _ = await AccessStore(database).create_key(account, "test", scopes=scopes, senders=["*"])
    return {"Authorization": f"Bearer {secret}"}


async def add_mail(database: Database, account: str) -> UUID:
    mail_id = uuid4()
    await database.fetch(
        "INSERT INTO scheduler.delayed (id, account, state, due_at) VALUES ($1, $2, 'pending', '2030-01-01T09:00:00Z')",
        mail_id,
        account,
    )
    return mail_id


async def test_a_waiting_mail_is_shown_with_its_time(client: httpx.AsyncClient, database: Database) -> None:
    key = await create_key(database, "shop", ApiScope.EMAILS_READ)
    mail_id = await add_mail(database, "shop")
    response = await client.get(f"/v1/scheduled/{mail_id}", headers=key)
    assert response.status_code == 200
    shown = response.json()
    assert shown.pop("created_at")
    links = {"self": f"/v1/scheduled/{mail_id}", "email": f"/v1/emails/{mail_id}"}
    time = "2030-01-01T09:00:00Z"
    assert shown == {"id": str(mail_id), "state": "pending", "due_at": time, "send_at": time, "links": links}


async def test_a_mail_of_another_account_is_not_found(client: httpx.AsyncClient, database: Database) -> None:
    key = await create_key(database, "shop", ApiScope.EMAILS_READ)
    for mail_id in (await add_mail(database, "another"), uuid4()):
        response = await client.get(f"/v1/scheduled/{mail_id}", headers=key)
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"


async def test_a_key_with_the_scope_is_needed(client: httpx.AsyncClient, database: Database) -> None:
    mail_id = await add_mail(database, "shop")
    other = await create_key(database, "shop", ApiScope.EMAILS_SEND)
    assert (await client.get(f"/v1/scheduled/{mail_id}")).status_code == 401
    assert (await client.get(f"/v1/scheduled/{mail_id}", headers=other)).status_code == 403


async def test_what_is_no_id_is_pointed_at(client: httpx.AsyncClient, database: Database) -> None:
    key = await create_key(database, "shop", ApiScope.EMAILS_READ)
    response = await client.get("/v1/scheduled/7", headers=key)
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/path/email_id"
