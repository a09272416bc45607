"""Files of contacts over HTTP, on a real PostgreSQL: taken in as they come, repeated, cut off, and full of faults."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from starlette.requests import ClientDisconnect

from services.scheduler.contacts import receiving
from services.scheduler.contacts.parts import list_contact_chores
from tests.support.mailings import Account, World

CSV, NDJSON = "text/csv", "application/x-ndjson"
FILE = b"""address,name,timezone,tags,plan
ann@example.org,Ann,Europe/Berlin,customer;vip,pro
nobody,No,,,x
bob@example.net,Bob,,customer,
ANN@example.org,Anna,Europe/Berlin,customer;vip,pro
cid@example.net,Cid,Mars/Olympus,,
"""


async def take(account: Account, body: Any, *, expect: int = 200, media: str = CSV, **params: Any) -> Any:
    headers = {"content-type": media}
    return await account.ask("POST", "/v1/contacts/import", expect=expect, content=body, headers=headers, params=params)


async def download(account: Account, import_id: str) -> list[dict[str, str]]:
    headers = {"Authorization": f"Bearer {account.secret}"}
    answer = await account.client.get(f"/v1/contacts/imports/{import_id}/problems", headers=headers)
    assert answer.headers["content-type"].startswith(CSV)
    return list(csv.DictReader(io.StringIO(answer.text)))


async def read_contacts(account: Account) -> Any:
    return await account.database.fetch(
        "SELECT id, address, name, timezone, tags, attributes, changed_at, xmin::text FROM scheduler.contact"
        " WHERE account = $1 ORDER BY id",
        account.name,
    )


def count(taken: Any) -> list[int]:
    return [taken[name] for name in ("rows", "created", "changed", "unchanged", "invalid")]


async def test_every_row_makes_a_contact_or_is_told_for_what_it_is(shop: Account) -> None:
    taken = await take(shop, FILE, name="customers.csv")
    assert count(taken) == [5, 2, 1, 0, 2]
    assert (taken["state"], taken["percent"], taken["name"]) == ("finished", 100.0, "customers.csv")
    told = [(each["row"], each["line"], each["field"]) for each in taken["problems"]]
    assert told == [(2, 3, "address"), (5, 6, "timezone")]
    assert await download(shop, taken["id"]) == [
        {name: str(value) for name, value in each.items()} for each in taken["problems"]
    ]
    ann, bob = sorted(await read_contacts(shop), key=lambda row: row["address"].lower())
    assert tuple(ann)[1:6] == ("ANN@example.org", "Anna", "Europe/Berlin", ["customer", "vip"], {"plan": "pro"})
    assert tuple(bob)[1:6] == ("bob@example.net", "Bob", None, ["customer"], {})
    shown = await shop.ask("GET", f"/v1/contacts/imports/{taken['id']}", expect=200)
    assert shown == {name: value for name, value in taken.items() if name != "problems"}
    assert (await shop.ask("GET", "/v1/contacts/imports", expect=200))["data"] == [shown]


async def test_a_file_sent_again_writes_nothing_and_other_columns_stay(shop: Account) -> None:
    await take(shop, FILE)
    before = await read_contacts(shop)
    plain = FILE.replace(b"ANN@example.org,Anna", b"bob@example.net,Bob,,customer,\nANN@example.org,Anna")
    await take(shop, b"address,name,timezone,tags,plan\nANN@example.org,Anna,Europe/Berlin,customer;vip,pro\n")
    assert await read_contacts(shop) == before
    assert count(await take(shop, plain)) == [6, 0, 1, 3, 2]
    assert await read_contacts(shop) == before
    assert count(await take(shop, b"address,city\nbob@example.net,Rome\n")) == [1, 0, 1, 0, 0]
    bob = next(row for row in await read_contacts(shop) if row["address"] == "bob@example.net")
    assert (bob["name"], bob["tags"], bob["attributes"]) == ("Bob", ["customer"], {"city": "Rome"})


async def test_rows_that_would_make_a_contact_too_large_are_left_out_and_the_others_count(shop: Account) -> None:
    half = "x" * 9000
    rows: list[dict[str, Any]] = [
        {"address": "ann@x.org", "name": "1", "a": half},
        {"address": "bob@x.org", "name": "1", "a": half},
        {"address": "ann@x.org", "name": "2", "b": half},  # too much of her
        {"address": "ann@x.org", "name": "3", "a": None},
        {"address": "bob@x.org", "name": "1"},
    ]
    taken = await take(shop, b"\n".join(map(orjson.dumps, rows)), media=NDJSON)
    assert count(taken) == [5, 2, 1, 1, 1]
    assert [(each["row"], each["field"]) for each in taken["problems"]] == [(3, "attributes")]
    kept = {row["address"]: (row["name"], list(row["attributes"])) for row in await read_contacts(shop)}
    assert kept == {"ann@x.org": ("3", []), "bob@x.org": ("1", ["a"])}
    assert count(await take(shop, f"address,b\nann@x.org,{half}\nbob@x.org,{half}\n".encode())) == [2, 0, 1, 0, 1]


async def test_what_had_come_of_an_upload_that_is_cut_off_stays_and_the_next_one_goes_on(shop: Account) -> None:
    whole = b"address,name\n" + b"".join(b"user%d@example.org,User %d\n" % (n, n) for n in range(5000))

    async def cut() -> AsyncIterator[bytes]:
        yield whole[:80_000]
        raise ClientDisconnect

    await take(shop, cut(), expect=400)
    [cut_off] = (await shop.ask("GET", "/v1/contacts/imports", expect=200))["data"]
    assert cut_off["state"] == "aborted" and 0 < cut_off["rows"] < 5000
    assert len(await read_contacts(shop)) == cut_off["created"]
    again = await take(shop, whole)
    assert count(again) == [5000, 5000 - cut_off["rows"], 0, cut_off["rows"], 0]
    contacts = await read_contacts(shop)
    assert {(row["address"], row["name"]) for row in contacts} == {
        (f"user{n}@example.org", f"User {n}") for n in range(5000)
    }
    assert count(await take(shop, whole)) == [5000, 0, 0, 5000, 0]
    assert await read_contacts(shop) == contacts


async def test_ten_thousand_bad_rows_are_told_one_by_one(shop: Account) -> None:
    faults = [b'"ann@example.org,x\n', b"a@x.org\n", b"b@x.org,M\xfcller\n", b"c\x00@x.org,x\n", b"nobody,x\n"]
    taken = await take(shop, b"address,name\n" + b"".join(faults) * 2000 + b"ok@example.org,Good\n")
    assert count(taken) == [10_001, 1, 0, 0, 10_000]
    problems = await download(shop, taken["id"])
    assert [int(each["row"]) for each in problems] == list(range(1, 10_001))
    assert len({each["detail"] for each in problems[:-5]}) == len(faults) - 1  # what is no text, and what is NUL
    assert not any("@" in each["detail"].replace("no @", "").replace("@-sign", "") for each in problems)


async def test_a_file_that_cannot_be_read_says_why(shop: Account) -> None:
    for body, media in ((b"", CSV), (b"name\nAnn\n", CSV), (b"address\nx\n", CSV), (b"[]", NDJSON), (b"PK\3\4", CSV)):
        refused = await take(shop, body, expect=422, media=media)
        assert refused["type"] == "/problems/unreadable-list" and refused["imported"] == 0
        shown = await shop.ask("GET", f"/v1/contacts/imports/{refused['import_id']}", expect=200)
        assert (shown["state"], shown["detail"]) == ("aborted", refused["detail"])
    for media in ("application/pdf", "text/csv; charset=nonsense"):
        assert (await take(shop, FILE, expect=415, media=media))["type"].endswith("media-type")
    wide = FILE.decode().encode("utf-16")
    assert count(await take(shop, wide))[0] == 5


async def test_too_many_bad_rows_end_it(shop: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "MOST_PROBLEMS", 1000)
    refused = await take(shop, b"address\n" + b"ann@example.org\n" + b"x\n" * 5000, expect=422)
    assert "is it the right one" in refused["detail"] and refused["imported"] == 1 and refused["invalid"] < 3000


async def test_an_import_whose_process_has_ended_says_so_and_old_ones_go(shop: Account) -> None:
    taken = await take(shop, FILE)
    path = f"/v1/contacts/imports/{taken['id']}"
    change = "UPDATE scheduler.contact_import SET {} WHERE account = $1"
    silent = "state = 'receiving', finished_at = NULL, seen_at = now() - interval '3 min'"
    await shop.database.fetch(change.format(silent), shop.name)
    shown = await shop.ask("GET", path, expect=200)
    assert shown["state"] == "aborted" and "cut off" in shown["detail"]
    await shop.database.fetch(change.format("created_at = now() - interval '31 days'"), shop.name)
    for chore in list_contact_chores(shop.database, timedelta(days=30)):
        while await chore.delete(1):
            pass
    await shop.ask("GET", path, expect=404)
    assert await shop.ask("GET", f"{path}/problems", expect=404)


async def test_imports_are_an_accounts_own(shop: Account, world: World) -> None:
    taken = await take(shop, FILE)
    stranger = await world.open()
    for what in ("", "/problems"):
        await stranger.ask("GET", f"/v1/contacts/imports/{taken['id']}{what}", expect=404)
    assert (await stranger.ask("GET", "/v1/contacts/imports", expect=200))["data"] == []
