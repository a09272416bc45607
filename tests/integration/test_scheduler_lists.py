"""Lists of recipients over HTTP, on a real PostgreSQL: uploading, reading and deleting them."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.scheduler.lists.parts import list_list_chores
from shared.access import ApiScope
from tests.support.mailings import CONTENT, Account, World, open_world

CSV, NDJSON = "text/csv", "application/x-ndjson"
FILE = b"""address,name,timezone,plan
ann@example.org,Ann,Europe/Berlin,pro
nobody,No,,x
ANN@example.org,Ann again,,free
bob@example.net,,,
"""


async def upload(account: Account, body: Any, *, expect: int = 201, media: str = CSV, **params: Any) -> Any:
    headers = {"content-type": media}
    return await account.ask("POST", "/v1/lists", expect=expect, content=body, headers=headers, params=params)


async def clean(account: Account) -> None:
    """All chores, as often as there is something to do."""
    for chore in list_list_chores(account.database, timedelta(days=30)):
        while await chore.delete(2):
            pass


async def count_rows(account: Account, list_id: str) -> list[int]:
    tables = [("mailing_list_entry", "list"), ("mailing_list_problem", "list"), ("mailing_list", "id")]
    counts = [
        await account.database.fetch(f"SELECT count(*) FROM scheduler.{table} WHERE {column} = $1", UUID(list_id))
        for table, column in tables
    ]
    return [rows[0][0] for rows in counts]


async def test_each_recipient_is_in_a_list_once_and_every_other_row_is_told(shop: Account) -> None:
    made = await upload(shop, FILE, name="winners")
    assert {name: made[name] for name in ("name", "state", "rows", "recipients", "duplicates", "invalid")} == {
        "name": "winners",
        "state": "ready",
        "rows": 4,
        "recipients": 2,
        "duplicates": 1,
        "invalid": 1,
    }
    told = [(each["number"], each["line"], each["kind"], each["field"]) for each in made["problems"]]
    assert told == [(2, 3, "invalid", "address"), (3, 4, "duplicate", "address")]
    path = f"/v1/lists/{made['id']}"
    read = await shop.ask("GET", path, expect=200)
    assert read == {name: value for name, value in made.items() if name in read}
    page = await shop.ask("GET", f"{path}/problems?limit=1", expect=200)
    rest = await shop.ask("GET", f"{path}/problems", expect=200, params={"after": page["next"]})
    assert [*page["data"], *rest["data"]] == made["problems"]
    assert rest["next"] is None
    rows = await shop.database.fetch(
        "SELECT address, name, zone, variables FROM scheduler.mailing_list_entry WHERE list = $1 ORDER BY number",
        UUID(made["id"]),
    )
    assert rows[0].values() and [tuple(row)[:3] for row in rows] == [
        ("ann@example.org", "Ann", "Europe/Berlin"),
        ("bob@example.net", "", None),
    ]
    assert rows[0]["variables"] == {"plan": "pro"}


async def test_problems_are_downloaded_as_csv(shop: Account) -> None:
    made = await upload(shop, FILE)
    headers = {"Authorization": f"Bearer {shop.secret}"}
    answer = await shop.client.get(f"/v1/lists/{made['id']}/problems?format=csv", headers=headers)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [{name: str(value) for name, value in each.items()} for each in made["problems"]] == rows


async def test_a_mailing_to_a_list_is_written_with_its_rows(shop: Account) -> None:
    lines = b'{"address": "ann@example.org", "name": "Ann", "variables": {"plan": {"a": [1]}}}\n'
    made = await upload(shop, lines + b'{"address": "bob@example.org"}\n', media=NDJSON)
    mailing = await shop.create(
        audience={"list": made["id"]}, content={**CONTENT, "text": "{{ plan.a[0] }} {{ address }}"}
    )
    preview = await shop.ask(
        "POST", f"/v1/mailings/{mailing['id']}/preview", expect=200, json={"address": "ann@example.org"}
    )
    assert preview["text"] == "1 ann@example.org"
    checked = await shop.check(mailing)
    assert (checked["recipients"], checked["missing"]) == (2, [{"variable": "plan", "recipients": 1}])


async def test_a_check_counts_those_whose_hours_do_not_open_before_the_end(shop: Account) -> None:
    lines = b'{"address": "ann@example.org", "timezone": "Etc/GMT+2"}\n{"address": "bob@example.org"}\n'
    made = await upload(shop, lines, media=NDJSON)
    now = datetime.now(UTC)
    hours = {"from": f"{now - timedelta(hours=2):%H:%M}", "to": f"{now - timedelta(hours=1):%H:%M}", "timezone": "UTC"}
    asked = {"audience": {"list": made["id"]}, "hours": hours}
    endless = await shop.check(await shop.create(**asked))
    assert "hours-never-open" not in {each["code"] for each in endless["warnings"]}
    checked = await shop.check(await shop.create(**asked, finish_at=(now + timedelta(hours=3)).isoformat()))
    [told] = [each["detail"] for each in checked["warnings"] if each["code"] == "hours-never-open"]
    assert told.startswith("1 of the recipients ")


async def test_an_upload_that_leaves_nobody_is_refused_and_says_why(shop: Account) -> None:
    for body, media in ((b"", CSV), (b"name\nAnn\n", CSV), (b"address\nx\n", CSV), (b"[]", NDJSON)):
        refused = await upload(shop, body, expect=422, media=media)
        assert refused["type"] == "/problems/list-refused"
        read = await shop.ask("GET", f"/v1/lists/{refused['list_id']}", expect=200)
        assert (read["state"], read["detail"]) == ("aborted", refused["detail"])
        assert await shop.refuse(
            "POST", "/v1/mailings", {"name": "n", "content": CONTENT, "audience": {"list": refused["list_id"]}}
        ) == ["/audience/list"]
    assert (await upload(shop, FILE, expect=415, media="application/pdf"))["type"].endswith("media-type")


async def test_a_list_with_too_many_rows_or_that_stops_coming_is_none(shop: Account, module_database_url: str) -> None:
    async with open_world(module_database_url, list_rows=3) as small:
        account = await small.open(shop.name)
        assert (await upload(account, FILE, expect=413))["limit"] == 3
    [aborted] = (await shop.ask("GET", "/v1/lists", expect=200))["data"]
    await shop.database.fetch(
        "UPDATE scheduler.mailing_list SET state = 'receiving', seen_at = now() - interval '3 min' WHERE id = $1",
        UUID(aborted["id"]),
    )
    await clean(shop)
    [given_up] = (await shop.ask("GET", "/v1/lists", expect=200))["data"]
    assert (given_up["state"], "cut off" in given_up["detail"]) == ("aborted", True)


async def test_a_list_is_deleted_once_no_mailing_needs_it(shop: Account) -> None:
    made = await upload(shop, FILE)
    path, mailing = f"/v1/lists/{made['id']}", await shop.create(audience={"list": made["id"]})
    assert (await shop.ask("DELETE", path, expect=409))["type"] == "/problems/list-in-use"
    await shop.set(mailing, "state = 'running', frozen_at = now()")
    await shop.ask("DELETE", path, expect=204)
    await shop.ask("GET", path, expect=404)
    await clean(shop)
    assert await count_rows(shop, made["id"]) == [0, 0, 0]


async def test_lists_are_an_accounts_own(shop: Account, world: World) -> None:
    made = [await upload(shop, FILE, name=f"l{number}") for number in range(3)]
    stranger = await world.open()
    for method, what in (("GET", ""), ("GET", "/problems"), ("DELETE", "")):
        await stranger.ask(method, f"/v1/lists/{made[0]['id']}{what}", expect=404)
    assert await stranger.refuse(
        "POST", "/v1/mailings", {"name": "n", "content": CONTENT, "audience": {"list": made[0]["id"]}}
    ) == ["/audience/list"]
    first = await shop.ask("GET", "/v1/lists?limit=2", expect=200)
    rest = await shop.ask("GET", "/v1/lists", expect=200, params={"after": first["next"]})
    assert [each["name"] for each in (*first["data"], *rest["data"])] == ["l2", "l1", "l0"]
    reader = await world.open(shop.name, scopes=[ApiScope.EMAILS_SEND])
    await upload(reader, FILE, expect=403)
    await shop.ask("GET", f"/v1/lists/{uuid4()}", expect=404)
