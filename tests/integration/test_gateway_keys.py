"""/v1/keys against a real API: what a key may give, who may see it, and when it stops working."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from shared.access import AccessStore, ApiScope, LastUses, derive_webhook_secret
from shared.database import Database
from tests.support.gateway import FULL, Caller, mint, read_requests, serve_gateway
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess
from tests.support.stack import MASTER_SECRET, Stack

SCOPES = [ApiScope.EMAILS_SEND, ApiScope.EMAILS_READ, ApiScope.KEYS_ADMIN]
SHOP = {"name": "shop", "scopes": ["emails:send", "emails:read"], "senders": ["*@example.com"]}


@dataclass(frozen=True)
class Api:
    """One API process for this module."""

    stack: Stack
    process: ServiceProcess

    async def mint(self, account: str = "", *senders: str, **options: Any) -> Caller:
        """A key with these rights, by default one that administers an account of its own."""
        options.setdefault("scopes", SCOPES)
        return await mint(self.stack.database_url, *senders, account=account or f"a-{uuid4().hex[:8]}", **options)


@pytest.fixture(scope="module")
def api(real_servers: RealServers) -> Iterator[Api]:
    with serve_gateway(real_servers, "api") as (stack, (process,)):
        yield Api(stack, process)


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=api.process.url, timeout=30) as client:
        yield client


@pytest.fixture
async def admin(api: Api) -> Caller:
    return await api.mint()


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


def bear(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def create(client: httpx.AsyncClient, admin: Caller, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/keys", json={**SHOP, **fields}, headers=admin.headers)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


async def test_a_key_is_made_works_and_its_secret_is_shown_once(
    api: Api, client: httpx.AsyncClient, admin: Caller
) -> None:
    answer = await client.post("/v1/keys", json=SHOP, headers=admin.headers)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    secret, account = made["key"], admin.key.account
    assert answer.headers["location"] == f"/v1/keys/{made['id']}"
    assert answer.headers["cache-control"] == "no-store"
    assert made["webhook_secret"] == derive_webhook_secret(MASTER_SECRET, account)
    assert (made["state"], made["account"], made["test"]) == ("active", account, False)
    assert (await client.post("/v1/emails", json=FULL, headers=bear(secret))).status_code == 202
    shown = await client.get(answer.headers["location"], headers=admin.headers)
    listed = await client.get("/v1/keys", headers=admin.headers)
    assert {"key", "webhook_secret"} & shown.json().keys() == set()
    assert [each["id"] for each in listed.json()["data"]] == [made["id"], admin.key.id]
    connection = await asyncpg.connect(api.stack.database_url)
    try:
        rows = await connection.fetch("SELECT k::text FROM access.api_keys k")
    finally:
        await connection.close()
    assert secret not in f"{shown.text} {listed.text} {rows} {api.process.read_log()}"


async def test_keys_of_another_account_do_not_exist(api: Api, client: httpx.AsyncClient, admin: Caller) -> None:
    path = f"/v1/keys/{(await api.mint()).key.id}"
    answers = [
        await client.get(path, headers=admin.headers),
        await client.patch(path, json={"name": "mine"}, headers=admin.headers),
        await client.post(f"{path}/rotate", headers=admin.headers),
        await client.delete(path, headers=admin.headers),
    ]
    assert {problem_of(each) for each in answers} == {(404, "key-not-found")}


async def test_without_the_scope_nothing_is_shown_or_done(api: Api, client: httpx.AsyncClient) -> None:
    reader = await api.mint(scopes=[ApiScope.EMAILS_READ])
    path = f"/v1/keys/{reader.key.id}"
    answers = [
        await client.get("/v1/keys", headers=reader.headers),
        await client.post("/v1/keys", json=SHOP, headers=reader.headers),
        await client.get(path, headers=reader.headers),
        await client.patch(path, json={"scopes": ["keys:admin"]}, headers=reader.headers),
        await client.post(f"{path}/rotate", headers=reader.headers),
        await client.delete(path, headers=reader.headers),
    ]
    assert {problem_of(each) for each in answers} == {(403, "scope-missing")}
    assert (await client.post("/v1/keys", json={})).status_code == 401


async def test_a_key_gives_only_what_it_has(api: Api, client: httpx.AsyncClient) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    bound: dict[str, Any] = {"networks": [ip_network("127.0.0.0/8")], "expires_at": end, "test": True}
    admin = await api.mint(**bound)
    asked = {
        "name": "more",
        "scopes": ["operate", "emails:send"],
        "senders": ["*@example.com", "*"],
        "networks": ["10.0.0.0/8"],
        "test": False,
        "expires_at": None,
    }
    answer = await client.post("/v1/keys", json=asked, headers=admin.headers)
    assert problem_of(answer) == (403, "grant-not-allowed")
    pointers = [each["pointer"] for each in answer.json()["errors"]]
    assert sorted(pointers) == ["/expires_at", "/networks", "/scopes", "/senders", "/test"]
    live = f"/v1/keys/{(await api.mint(admin.key.account)).key.id}"
    for refused in (
        await client.patch(live, json={"name": "mine"}, headers=admin.headers),
        await client.post(f"{live}/rotate", headers=admin.headers),
        await client.delete(live, headers=admin.headers),
    ):
        assert problem_of(refused) == (403, "test-key")
    made = await create(client, admin)
    assert (made["networks"], made["test"]) == (["127.0.0.0/8"], True)
    assert datetime.fromisoformat(made["expires_at"]) == end


async def test_changes_may_take_away_and_give_no_more_than_the_asking_key_has(
    api: Api, client: httpx.AsyncClient, admin: Caller
) -> None:
    strong = await api.mint(admin.key.account, "*", scopes=[*SCOPES, ApiScope.OPERATE])
    path = f"/v1/keys/{strong.key.id}"
    narrowed = await client.patch(path, json={"senders": ["*", "a@b.org"], "name": "big"}, headers=admin.headers)
    assert (narrowed.status_code, narrowed.json()["name"]) == (200, "big")
    widened = await client.patch(path, json={"scopes": ["webhooks:admin", "emails:send"]}, headers=admin.headers)
    assert problem_of(widened) == (403, "grant-not-allowed")
    assert problem_of(await client.post(f"{path}/rotate", headers=admin.headers)) == (403, "grant-not-allowed")
    end = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    wishes = {"scopes": ["emails:read"], "senders": [], "networks": ["::ffff:10.1.0.0/112"], "expires_at": end}
    changed = (await client.patch(path, json=wishes, headers=admin.headers)).json()
    assert (changed["scopes"], changed["senders"], changed["networks"]) == (["emails:read"], [], ["10.1.0.0/16"])
    freed = (await client.patch(path, json={"networks": [], "expires_at": None}, headers=admin.headers)).json()
    assert (freed["networks"], "expires_at" in freed, freed["scopes"]) == ([], False, ["emails:read"])


async def test_the_last_key_that_administers_keys_stays(api: Api, client: httpx.AsyncClient, admin: Caller) -> None:
    path = f"/v1/keys/{admin.key.id}"
    await api.mint(admin.key.account, test=True)  # administers test keys only
    await api.mint(admin.key.account, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    revoked = await client.delete(path, headers=admin.headers)
    assert problem_of(revoked) == (409, "last-admin-key")
    assert "keys revoke" in revoked.json()["detail"]
    changed = await client.patch(path, json={"scopes": ["emails:read"]}, headers=admin.headers)
    assert problem_of(changed) == (409, "last-admin-key")
    assert (await client.patch(path, json={"name": "still here"}, headers=admin.headers)).status_code == 200
    other = await api.mint(admin.key.account)
    assert (await client.get("/v1/keys", headers=other.headers)).status_code == 200  # both are known now
    # Each takes the other away at the same moment: one of them has to stay.
    answers = await asyncio.gather(
        client.delete(f"/v1/keys/{other.key.id}", headers=admin.headers),
        client.delete(path, headers=other.headers),
    )
    assert sorted(each.status_code for each in answers) == [204, 409]


async def test_rates_are_given_changed_and_kept_by_rotation(api: Api, client: httpx.AsyncClient) -> None:
    admin = await api.mint(mail_rate=20)
    made = await create(client, admin, request_rate=500)
    path = f"/v1/keys/{made['id']}"
    assert (made["request_rate"], made["mail_rate"]) == (500, 20), "what is left out is the asking key's"
    refused = await client.patch(path, json={"mail_rate": None}, headers=admin.headers)
    assert problem_of(refused) == (403, "grant-not-allowed")
    assert [each["pointer"] for each in refused.json()["errors"]] == ["/mail_rate"]
    changed = await client.patch(path, json={"mail_rate": 5, "request_rate": None}, headers=admin.headers)
    assert (changed.status_code, changed.json()["mail_rate"], "request_rate" in changed.json()) == (200, 5, False)
    renamed = await client.patch(path, json={"name": "till"}, headers=admin.headers)
    assert renamed.json()["mail_rate"] == 5
    rotated = (await client.post(f"{path}/rotate", headers=admin.headers)).json()
    assert rotated["mail_rate"] == 5
    answer = await client.get("/v1/emails/01900000-0000-7000-8000-000000000000", headers=bear(rotated["key"]))
    assert answer.headers["ratelimit-policy"] == '"requests";q=100000;w=10, "mails";q=50;w=10'
    for wrong in (-1, "fast", 1e300):
        assert problem_of(await client.patch(path, json={"mail_rate": wrong}, headers=admin.headers))[0] == 422


async def test_what_is_revoked_rotated_or_over_stops_within_five_seconds(
    client: httpx.AsyncClient, admin: Caller
) -> None:
    revoked, rotated, kept = [await create(client, admin) for _ in range(3)]
    ending = await create(client, admin, expires_at=(datetime.now(UTC) + timedelta(seconds=2)).isoformat())
    for each in (revoked, rotated, kept, ending):
        assert problem_of(await client.get("/v1/keys", headers=bear(each["key"]))) == (403, "scope-missing")
    for _ in range(2):  # once more is no error
        assert (await client.delete(f"/v1/keys/{revoked['id']}", headers=admin.headers)).status_code == 204
    successor = await client.post(f"/v1/keys/{rotated['id']}/rotate", json={"overlap": 0}, headers=admin.headers)
    assert successor.status_code == 201
    assert successor.json()["replaces"] == rotated["id"]
    assert successor.headers["location"] == f"/v1/keys/{successor.json()['id']}"
    twin = (await client.post(f"/v1/keys/{kept['id']}/rotate", headers=admin.headers)).json()
    deadline, left = time.monotonic() + 5, [revoked, rotated, ending]
    while left and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        left = [
            each
            for each in left
            if (await client.post("/v1/emails", json=FULL, headers=bear(each["key"]))).status_code != 401
        ]
    assert left == []
    for each in (successor.json(), kept, twin):
        assert (await client.post("/v1/emails", json=FULL, headers=bear(each["key"]))).status_code == 202
    states = {
        each["id"]: each["state"] for each in (await client.get("/v1/keys", headers=admin.headers)).json()["data"]
    }
    assert (states[revoked["id"]], states[rotated["id"]], states[ending["id"]]) == ("revoked", "expired", "expired")
    path = f"/v1/keys/{revoked['id']}"
    for answer in (
        await client.post(f"{path}/rotate", headers=admin.headers),
        await client.patch(path, json={"name": "again"}, headers=admin.headers),
    ):
        assert problem_of(answer) == (409, "key-not-usable")


async def test_a_key_bound_to_networks_works_nowhere_else(api: Api, client: httpx.AsyncClient) -> None:
    elsewhere = await api.mint(networks=[ip_network("10.0.0.0/8"), ip_network("fd00::/8")])
    here = await api.mint(networks=[ip_network("127.0.0.1/32")])
    answers = [
        await client.post("/v1/emails", json=FULL, headers=elsewhere.headers),
        await client.post("/email/", json={"token": elsewhere.secret}),
        await client.get("/v1/keys", headers=elsewhere.headers),
    ]
    assert {problem_of(each) for each in answers} == {(403, "network-not-allowed")}
    assert (await client.post("/v1/emails", json=FULL, headers=here.headers)).status_code == 202


async def test_the_list_goes_page_by_page(api: Api, client: httpx.AsyncClient, admin: Caller) -> None:
    made = [(await create(client, admin, name=f"key {number}"))["id"] for number in range(4)]
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        answer = await client.get("/v1/keys", params={"limit": "2", **after}, headers=admin.headers)
        found += [each["id"] for each in answer.json()["data"]]
        if "next" not in answer.json():
            break
        after = {"after": answer.json()["next"]}
    assert found == [*reversed(made), admin.key.id]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"name": " "}, "/name"),
        ({"name": "a\u0000b"}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["all"]}, "/scopes/0"),
        ({"senders": []}, "/senders"),
        ({"senders": ["nobody"]}, "/senders/0"),
        ({"networks": ["10.0.0.0/40"]}, "/networks/0"),
        ({"networks": [10]}, "/networks/0"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "tomorrow"}, "/expires_at"),
        ({"account": "another"}, "/account"),
    ],
)
async def test_a_mistake_is_pointed_at(
    api: Api, client: httpx.AsyncClient, admin: Caller, fields: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/v1/keys", json={**SHOP, **fields}, headers=admin.headers)
    assert answer.status_code == 422, answer.text
    assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]


async def test_the_mail_of_a_test_key_is_marked(api: Api, client: httpx.AsyncClient) -> None:
    caller = await api.mint(test=True)
    full = await client.post("/v1/emails", json=FULL, headers=caller.headers)
    simple = {**FULL, "html_content": "<p>x</p>", "to": "a@x.org", "token": caller.secret}
    plain = await client.post("/email/", json={name: simple[name] for name in simple if name not in ("html", "text")})
    forged = await client.post("/v1/emails", json={**FULL, "test": False}, headers=caller.headers)
    assert (full.status_code, plain.status_code, forged.status_code) == (202, 202, 422)
    events = {each.key.decode(): json.loads(each.value) for each in await read_requests(api.stack)}
    assert events[full.json()["id"]]["test"] is True
    assert events[plain.json()["id"]]["test"] is True


async def test_last_uses_are_written_together_and_never_go_back(api: Api) -> None:
    callers = [await api.mint() for _ in range(2)]
    database = Database(api.stack.database_url, pool_size=1)
    store = AccessStore(database)
    try:
        uses = LastUses(store)
        for caller in callers:
            uses.note(caller.key.id)
        await uses.stop()
        await store.note_uses({callers[0].key.id: 1000.0})
        found = [await store.read_key(caller.key.id) for caller in callers]
    finally:
        await database.close()
    for key in found:
        assert key is not None
        assert key.last_used_at is not None
        assert abs(key.last_used_at - datetime.now(UTC)) < timedelta(seconds=30)
