"""GET /v1/webhooks/deliveries, on a real PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from services.callback.api import create_api
from services.callback.deliveries import Delivery, DeliveryState
from services.callback.settings import ApiSettings
from services.callback.store import DUE_DELIVERIES, CallbackStore
from services.callback.verdict import Attempt, Verdict
from shared.access import AccessStore, ApiScope
from shared.database import Database

URL = "https://wms.server/callback/?checkout-id=12"


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


async def add_delivery(database: Database, email_id: UUID, *attempts: tuple[Attempt, Verdict]) -> UUID:
    store = CallbackStore(database)
    delivery = Delivery(uuid4(), "shop", email_id, uuid4(), "email.sent", URL, b"{}", None)
    assert await store.add([delivery, delivery]) == 1
    assert await store.add([delivery]) == 0
    for attempt, verdict in attempts:
        (row,) = await DUE_DELIVERIES.lease(database, 1, timedelta(seconds=30))
        assert await store.settle(row, attempt, verdict)
        assert not await store.settle(row, attempt, verdict)
    return delivery.id


NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
FAILED_ONCE = (
    Attempt(NOW, 12, error="no connection: refused"),
    Verdict(DeliveryState.PENDING, timedelta(0)),
)
DELIVERED = (Attempt(NOW, 34, 200, response="thanks"), Verdict(DeliveryState.DELIVERED))


async def test_deliveries_are_shown_with_every_attempt(client: httpx.AsyncClient, database: Database) -> None:
    key = await create_key(database, "shop", ApiScope.EMAILS_READ)
    mail = uuid4()
    delivery_id = await add_delivery(database, mail, FAILED_ONCE, DELIVERED)
    response = await client.get("/v1/webhooks/deliveries", params={"email_id": str(mail)}, headers=key)
    assert response.status_code == 200
    (shown,) = response.json()["data"]
    assert (shown["id"], shown["url"], shown["type"]) == (str(delivery_id), URL, "email.sent")
    assert shown["state"] == "delivered"
    assert "next_attempt_at" not in shown
    started_at = "2026-05-01T12:00:00Z"
    assert shown["attempts"] == [
        {"number": 1, "started_at": started_at, "duration_ms": 12, "error": "no connection: refused", "response": ""},
        {"number": 2, "started_at": started_at, "duration_ms": 34, "status": 200, "response": "thanks"},
    ]


async def test_a_pending_delivery_says_when_it_is_tried_next(client: httpx.AsyncClient, database: Database) -> None:
    key = await create_key(database, "shop", ApiScope.EMAILS_READ)
    mail = uuid4()
    await add_delivery(database, mail, (FAILED_ONCE[0], Verdict(DeliveryState.PENDING, timedelta(minutes=5))))
    response = await client.get("/v1/webhooks/deliveries", params={"email_id": str(mail)}, headers=key)
    (shown,) = response.json()["data"]
    ahead = datetime.fromisoformat(shown["next_attempt_at"]) - datetime.now(UTC)
    assert shown["state"] == "pending"
    assert timedelta(minutes=4) < ahead <= timedelta(minutes=5)


async def test_another_account_sees_nothing(client: httpx.AsyncClient, database: Database) -> None:
    key = await create_key(database, "another", ApiScope.EMAILS_READ)
    mail = uuid4()
    await add_delivery(database, mail)
    response = await client.get("/v1/webhooks/deliveries", params={"email_id": str(mail)}, headers=key)
    assert response.json() == {"data": []}


async def test_a_key_with_the_scope_and_an_id_are_needed(client: httpx.AsyncClient, database: Database) -> None:
    path = f"/v1/webhooks/deliveries?email_id={uuid4()}"
    other = await create_key(database, "shop", ApiScope.EMAILS_SEND)
    reader = await create_key(database, "shop", ApiScope.EMAILS_READ)
    assert (await client.get(path)).status_code == 401
    assert (await client.get(path, headers=other)).status_code == 403
    assert (await client.get("/v1/webhooks/deliveries", headers=reader)).status_code == 422
