"""/v1/scheduled on a real PostgreSQL: what waits, in which order, by which index, and what may be changed of it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.scheduler.api import create_api
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.pacing.lanes import LaneKey, LaneKind
from services.scheduler.pacing.rows import BulkRow
from services.scheduler.settings import ApiSettings
from services.scheduler.waiting.view_store import STATEMENTS
from shared.access import AccessStore, ApiScope
from shared.database import Database
from tests.bench.plans import find_faults

NEW_YEAR, SEND_AT = datetime(2030, 1, 1, tzinfo=UTC), "2030-01-01T12:00:00Z"
BOTH = (ApiScope.EMAILS_READ, ApiScope.EMAILS_SEND)


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


async def add_mail(database: Database, account: str, hour: float = 9, **columns: Any) -> UUID:
    """A mail that waits for an hour of the first day of 2030."""
    mail_id = columns.pop("id", None) or uuid4()
    given = {"id": mail_id, "account": account, "state": "pending", "due_at": NEW_YEAR + timedelta(hours=hour)}
    given |= columns
    names, places = ", ".join(given), ", ".join(f"${number}" for number in range(1, len(given) + 1))
    await database.fetch(f"INSERT INTO scheduler.delayed ({names}) VALUES ({places})", *given.values())
    return mail_id


async def list_ids(client: httpx.AsyncClient, key: dict[str, str], **query: Any) -> list[str]:
    """The ids of a list, page after page."""
    ids: list[str] = []
    while True:
        answer = await client.get("/v1/scheduled", headers=key, params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        ids += [item["id"] for item in page["data"]]
        if "next" not in page:
            return ids
        query["after"] = page["next"]


async def list_told(database: Database) -> list[tuple[UUID, str]]:
    """What is to be told, by mail and kind."""
    rows = await database.fetch("SELECT mail_id, kind FROM scheduler.announcement ORDER BY at")
    return [(UUID(int=row["mail_id"].int), row["kind"]) for row in rows]


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


async def test_what_waits_is_listed_soonest_first_page_after_page(
    client: httpx.AsyncClient, database: Database
) -> None:
    key = await create_key(database, "shop", ApiScope.EMAILS_READ)
    late, early = await add_mail(database, "shop", 11), await add_mail(database, "shop", 7)
    # Three at one moment, in the order of their ids; one of them is on its way.
    same = sorted(uuid4() for _ in range(3))
    for number, mail_id in enumerate(same):
        await add_mail(database, "shop", 9, id=mail_id, state="releasing" if number == 1 else "pending")
    gone, dropped = await add_mail(database, "shop", 8, state="released"), await add_mail(database, "shop", 10)
    await database.fetch("UPDATE scheduler.delayed SET state = 'cancelled' WHERE id = $1", dropped)
    await add_mail(database, "another", 9)
    waiting = [str(each) for each in (early, *same, late)]
    assert await list_ids(client, key) == waiting
    assert await list_ids(client, key, limit=1) == waiting
    assert await list_ids(client, key, limit=2) == waiting
    assert await list_ids(client, key, state="pending", limit=1) == [waiting[0], waiting[1], waiting[3], waiting[4]]
    assert await list_ids(client, key, state="releasing") == [str(same[1])]
    assert await list_ids(client, key, state="released") == [str(gone)]
    assert await list_ids(client, key, state="cancelled") == [str(dropped)]
    nine, eleven = "2030-01-01T09:00:00Z", "2030-01-01T11:00:00Z"
    assert await list_ids(client, key, **{"from": nine, "to": eleven, "limit": 2}) == waiting[1:4]
    assert await list_ids(client, key, **{"from": "0001-01-01T00:00:00Z", "to": nine}) == waiting[:1]


async def test_a_bulk_event_is_one_entry_of_the_list(client: httpx.AsyncClient, database: Database) -> None:
    key, bulk_id = await create_key(database, "shop", ApiScope.EMAILS_READ), uuid4()
    row_id = await add_mail(database, "shop", bulk_id=bulk_id, mail_count=30)
    (entry,) = (await client.get("/v1/scheduled", headers=key)).json()["data"]
    assert (entry["id"], entry["bulk_id"], entry["mail_count"]) == (str(row_id), str(bulk_id), 30)
    assert entry["links"] == {"self": f"/v1/scheduled/{row_id}"}


async def test_queries_that_mean_nothing_are_refused_with_a_pointer(
    client: httpx.AsyncClient, database: Database
) -> None:
    key = await create_key(database, "shop", ApiScope.EMAILS_READ)
    for _ in range(2):
        await add_mail(database, "shop")
    cursor = (await client.get("/v1/scheduled?limit=1", headers=key)).json()["next"]
    for query, pointer in (
        ("state=sent", "/query/state"),
        ("limit=0", "/query/limit"),
        ("from=yesterday", "/query/from"),
        ("from=2030-01-01T00:00:00Z&to=2030-01-01T00:00:00Z", "/query/to"),
        ("after=x", "/query/after"),
        (f"after={cursor}&state=pending", "/query/after"),
        ("colour=red", "/query/colour"),
    ):
        answer = await client.get(f"/v1/scheduled?{query}", headers=key)
        assert answer.status_code == 422, query
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_every_list_is_a_range_of_one_index_however_much_waits(database: Database, database_url: str) -> None:
    await database.fetch(
        """
        INSERT INTO scheduler.delayed (id, account, state, due_at)
        SELECT gen_random_uuid(), 'shop', (ARRAY['pending', 'pending', 'released', 'cancelled'])[1 + n % 4],
               '2030-01-01T00:00:00Z'::timestamptz + n * interval '1 s'
        FROM generate_series(1, 20000) AS n
        """
    )
    for state, statement in STATEMENTS.items():
        arguments = ("shop", NEW_YEAR + timedelta(hours=3), UUID(int=0), NEW_YEAR + timedelta(hours=5), 51)
        assert await find_faults(database_url, statement, arguments, "delayed_listed") == [], state


async def test_a_mail_that_waits_is_moved_and_the_change_is_to_be_told_once(
    client: httpx.AsyncClient, database: Database
) -> None:
    key, mail_id = await create_key(database, "shop", *BOTH), await add_mail(database, "shop")
    for _ in range(2):  # asked again, nothing changes
        answer = await client.patch(
            f"/v1/scheduled/{mail_id}", headers=key, json={"send_at": "2030-01-01T12:30:00+01:00"}
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["send_at"] == answer.json()["due_at"] == "2030-01-01T11:30:00Z"
        assert answer.json()["rescheduled_at"]
    assert await list_told(database) == [(mail_id, "rescheduled")]
    assert (await client.get(f"/v1/scheduled/{mail_id}", headers=key)).json() == answer.json()


async def test_a_mail_cannot_be_moved_past_the_expiry_that_was_named_for_it(
    client: httpx.AsyncClient, database: Database
) -> None:
    key = await create_key(database, "shop", *BOTH)
    mail_id = await add_mail(database, "shop", expires_at=NEW_YEAR + timedelta(hours=10))
    path = f"/v1/scheduled/{mail_id}"
    answer = await client.patch(path, headers=key, json={"send_at": "2030-01-01T10:00:00Z"})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/send_at"
    assert "2030-01-01T10:00:00" in error["detail"]
    assert (await client.patch(path, headers=key, json={"send_at": "2030-01-01T09:59:59Z"})).status_code == 200


async def test_a_mail_that_waits_is_cancelled_at_once_and_asking_again_does_no_harm(
    client: httpx.AsyncClient, database: Database
) -> None:
    key, mail_id = await create_key(database, "shop", *BOTH), await add_mail(database, "shop")
    answers = [await client.post(f"/v1/scheduled/{mail_id}/cancel", headers=key) for _ in range(2)]
    assert [(each.status_code, each.json()["state"]) for each in answers] == [(200, "cancelled")] * 2
    assert answers[0].json() == answers[1].json()
    assert await list_told(database) == [(mail_id, "cancelled")]


@pytest.mark.parametrize("state", ["releasing", "released", "cancelled"])
async def test_what_does_not_wait_is_not_changed_and_its_state_is_said(
    client: httpx.AsyncClient, database: Database, state: str
) -> None:
    key, mail_id = await create_key(database, "shop", *BOTH), await add_mail(database, "shop", state=state)
    answers = [await client.patch(f"/v1/scheduled/{mail_id}", headers=key, json={"send_at": "2031-01-01T00:00:00Z"})]
    if state != "cancelled":
        answers.append(await client.post(f"/v1/scheduled/{mail_id}/cancel", headers=key))
    for answer in answers:
        assert answer.status_code == 409
        assert (answer.json()["type"], answer.json()["state"]) == ("/problems/not-scheduled", state)
    assert await list_told(database) == []


async def test_nobody_changes_mail_of_another_account_or_without_the_scope(
    client: httpx.AsyncClient, database: Database
) -> None:
    key, reader = await create_key(database, "shop", *BOTH), await create_key(database, "other", ApiScope.EMAILS_READ)
    foreign, own, new = await add_mail(database, "other"), await add_mail(database, "other"), {"send_at": SEND_AT}
    for headers, mail_id, status in ((key, foreign, 404), (key, uuid4(), 404), (reader, own, 403), ({}, own, 401)):
        path = f"/v1/scheduled/{mail_id}"
        assert (await client.patch(path, headers=headers, json=new)).status_code == status
        assert (await client.post(f"{path}/cancel", headers=headers)).status_code == status
    assert await list_told(database) == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/send_at"),
        ({"send_at": None}, "/send_at"),
        ({"send_at": "2030-01-01T09:00:00"}, "/send_at"),
        ({"send_at": 1893456000}, "/send_at"),
        ({"send_at": "9999-12-31T23:59:59-05:00"}, "/send_at"),
        ({"send_at": "2030-01-01T09:00:00Z", "subject": "x"}, "/subject"),
        ([], ""),
    ],
)
async def test_a_body_that_says_no_time_is_pointed_at(
    client: httpx.AsyncClient, database: Database, body: Any, pointer: str
) -> None:
    key, mail_id = await create_key(database, "shop", *BOTH), await add_mail(database, "shop")
    answer = await client.patch(f"/v1/scheduled/{mail_id}", headers=key, json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_body_is_read_as_json_whatever_it_is_called(client: httpx.AsyncClient, database: Database) -> None:
    key, mail_id = await create_key(database, "shop", *BOTH), await add_mail(database, "shop")
    form = {**key, "content-type": "application/x-www-form-urlencoded"}  # as curl -d says
    path = f"/v1/scheduled/{mail_id}"
    assert (await client.patch(path, headers=form, content=b'{"send_at": "2030-01-01T10:00:00Z"}')).status_code == 200
    answer = await client.patch(path, headers=form, content=b"send_at=tomorrow")
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed-json")


async def test_bulk_mail_is_found_and_cancelled_by_its_id_until_it_is_handed_out(
    client: httpx.AsyncClient, database: Database
) -> None:
    key, other = await create_key(database, "shop", *BOTH), await create_key(database, "another", *BOTH)
    lane, mail_id = LaneKey("shop", LaneKind.LOOSE), uuid4()
    row = BulkRow(mail_id, lane, 0, NEW_YEAR, None, None, b'{"to":["a@example.org"]}', None)
    await BulkStore(database).add([row])
    path = f"/v1/scheduled/{mail_id}"
    assert (await client.get(path, headers=other)).status_code == 404
    assert (await client.post(f"{path}/cancel", headers=other)).status_code == 404
    shown = (await client.get(path, headers=key)).json()
    assert (shown["state"], shown["send_at"]) == ("pending", "2030-01-01T00:00:00Z")
    assert (await client.patch(path, headers=key, json={"send_at": SEND_AT})).status_code == 409
    for _ in range(2):
        cancelled = await client.post(f"{path}/cancel", headers=key)
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert (await client.get(path, headers=key)).json()["state"] == "cancelled"
    [group] = await database.fetch("SELECT mails FROM scheduler.bulk_group WHERE kind = 'cancellation'")
    assert [UUID(int=each.int) for each in group["mails"]] == [mail_id]
