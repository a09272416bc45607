"""Contacts over HTTP, on a real PostgreSQL: kept, found, exported and erased."""

import asyncio
import csv
import io
import json
from typing import Any
from uuid import UUID, uuid4

import orjson

from shared.access import ApiScope
from tests.support.mailings import Account, World

ANN: dict[str, Any] = {
    "address": "Ann@example.org",
    "name": "Ann",
    "timezone": "Europe/Berlin",
    "tags": ["vip", "customer"],
    "attributes": {"plan": "pro", "seats": 5},
}

_LANE = "INSERT INTO scheduler.bulk_lane (account, kind, name, {}) VALUES ($1, 'mailing', $2, 1) RETURNING id"


async def put(account: Account, *, expect: int = 201, **fields: Any) -> Any:
    return await account.ask("POST", "/v1/contacts", expect=expect, json=fields)


async def export(account: Account, **params: Any) -> str:
    headers = {"Authorization": f"Bearer {account.secret}"}
    answer = await account.client.get("/v1/contacts/export", headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    return answer.text


async def list_addresses(account: Account, **params: Any) -> list[str]:
    page = await account.ask("GET", "/v1/contacts", expect=200, params=params)
    return sorted(each["address"] for each in page["data"])


def read_counts(proof: Any) -> dict[str, int]:
    return {each["where"]: each["rows"] for each in proof["erased"]}


async def test_a_contact_is_its_address_and_changes_as_far_as_something_is_said(shop: Account) -> None:
    made = await put(shop, **ANN)
    assert (made["tags"], made["attributes"]) == (["customer", "vip"], {"plan": "pro", "seats": 5})
    again = await put(shop, expect=200, **ANN)
    assert again == made  # nothing was written, the time of the last change neither
    changed = await put(shop, expect=200, address="ann@EXAMPLE.org", attributes={"plan": "free", "seats": None})
    assert changed["id"] == made["id"]
    assert (changed["address"], changed["name"], changed["tags"]) == ("ann@EXAMPLE.org", "Ann", made["tags"])
    assert changed["attributes"] == {"plan": "free"}
    assert changed["changed_at"] > made["changed_at"] and changed["created_at"] == made["created_at"]
    path = f"/v1/contacts/{made['id']}"
    patched = await shop.ask("PATCH", path, expect=200, json={"name": None, "timezone": None, "tags": ["old"]})
    assert (patched["name"], patched["timezone"], patched["tags"]) == ("", None, ["old"])
    assert await shop.ask("PATCH", path, expect=200, json={}) == patched
    assert await shop.ask("GET", path, expect=200) == patched


async def test_what_no_contact_can_be_is_refused_with_pointers(shop: Account) -> None:
    refused: dict[str, dict[str, Any]] = {
        "/address": {"address": "nobody"},
        "/name": {"name": "A\nB"},
        "/timezone": {"timezone": "Mars/Olympus"},
        "/tags": {"tags": "vip"},
        "/attributes": {"attributes": {"name": "Ann"}},
        "/plan": {"plan": "pro"},
    }
    for pointer, fields in refused.items():
        assert await shop.refuse("POST", "/v1/contacts", {"address": "ann@example.org", **fields}) == [pointer]
    assert await shop.refuse("POST", "/v1/contacts", {"address": "a@x.org", "attributes": {"a": "\0"}})
    assert await shop.refuse("POST", "/v1/contacts", {"address": "a@x.org", "attributes": {"a": "b" * 17_000}})
    made = await put(shop, address="ann@example.org")
    assert await shop.refuse("PATCH", f"/v1/contacts/{made['id']}", {"address": "bob@example.org"}) == ["/address"]
    [missing] = (await shop.ask("PATCH", f"/v1/contacts/{made['id']}", expect=422))["errors"]
    assert missing["pointer"] == "" and "JSON object" in missing["detail"]
    for query in ("attribute=plan", "attribute=:pro", "tag=", "limit=0", "after=x", "color=red"):
        assert (await shop.ask("GET", f"/v1/contacts?{query}", expect=422))["errors"]
    assert (await shop.ask("GET", "/v1/contacts/nonsense", expect=422))["errors"]


async def test_attributes_are_bounded_also_with_those_that_are_there(shop: Account) -> None:
    half = '" ö,' * 1200  # 7,200 bytes of JSON
    made = await put(shop, address="big@example.org", attributes={"a": half, "b": [1, 2] * 30})
    path = f"/v1/contacts/{made['id']}"
    for method, where in (("PATCH", path), ("POST", "/v1/contacts")):
        fields: dict[str, Any] = {"name": "Ann", "attributes": {"c": half, "d": "x" * 2000}}
        fields |= {} if method == "PATCH" else {"address": "big@example.org"}
        [error] = (await shop.ask(method, where, expect=422, json=fields))["errors"]
        assert error["pointer"] == "/attributes" and "16384" in error["detail"]
        fields["attributes"] = {f"n{number}": number for number in range(199)}
        assert await shop.refuse(method, where, fields) == ["/attributes"]
    assert await shop.ask("GET", path, expect=200) == made  # not the name either
    fitting = {"a": None, "c": half, "d": half}
    assert (await shop.ask("PATCH", path, expect=200, json={"attributes": fitting}))["attributes"].keys() == {*"bcd"}


async def test_a_contact_takes_to_the_byte_what_the_limit_says_and_one_that_was_larger_can_still_shrink(
    shop: Account,
) -> None:
    pairs: dict[str, Any] = {"a": [" , ", {"b": ' "\\" : '}, 1.5], "c": "é"}
    room = 16 * 1024 - len(orjson.dumps(pairs | {"d": "", "e": 1}))
    made = await put(shop, address="full@example.org", attributes=pairs | {"d": "x" * room})
    path = f"/v1/contacts/{made['id']}"
    assert await shop.refuse("PATCH", path, {"attributes": {"e": 10}}) == ["/attributes"]
    full = await shop.ask("PATCH", path, expect=200, json={"attributes": {"e": 1}})
    assert len(orjson.dumps(full["attributes"])) == 16 * 1024
    await shop.database.fetch(
        """UPDATE scheduler.contact SET attributes = attributes || '{"f": "from before the limit"}' WHERE id = $1""",
        UUID(made["id"]),
    )
    assert (await shop.ask("PATCH", path, expect=200, json={"name": "Ann"}))["name"] == "Ann"
    assert await shop.refuse("PATCH", path, {"attributes": {"g": 1}}) == ["/attributes"]
    assert (await shop.ask("PATCH", path, expect=200, json={"attributes": {"e": None}}))["attributes"]["f"]


async def test_of_two_changes_at_once_that_fit_only_alone_one_is_refused(shop: Account) -> None:
    made = await put(shop, address="two@example.org")
    path = f"/v1/contacts/{made['id']}"
    headers = {"Authorization": f"Bearer {shop.secret}"}
    asked = [
        shop.client.patch(path, headers=headers, json={"attributes": {name: "x" * 10_000}}) for name in ("a", "b", "c")
    ]
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers) == [200, 422, 422]


async def test_contacts_are_found_by_tags_attributes_and_address_page_by_page(shop: Account) -> None:
    await put(shop, **ANN)
    await put(shop, address="bob@example.org", tags=["customer"], attributes={"plan": "pro", "seats": "5"})
    await put(shop, address="cid@example.org", tags=["customer"], attributes={"plan": "free", "paid": True})
    assert await list_addresses(shop, tag=["customer"], attribute=["plan:pro"]) == [
        "Ann@example.org",
        "bob@example.org",
    ]
    assert await list_addresses(shop, tag=["customer", "vip"]) == ["Ann@example.org"]
    assert await list_addresses(shop, attribute=["seats:5"]) == ["Ann@example.org", "bob@example.org"]
    assert await list_addresses(shop, attribute=["paid:true"]) == ["cid@example.org"]
    assert await list_addresses(shop, address="ANN@example.org") == ["Ann@example.org"]
    assert await list_addresses(shop, tag=["nobody"]) == []
    first = await shop.ask("GET", "/v1/contacts?limit=2", expect=200)
    rest = await shop.ask("GET", "/v1/contacts", expect=200, params={"limit": 2, "after": first["next"]})
    assert len({each["id"] for each in (*first["data"], *rest["data"])}) == 3 and rest["next"] is None
    assert await shop.ask("GET", f"/v1/contacts?tag=vip&after={first['next']}", expect=422)


async def test_what_is_exported_can_be_imported_again(shop: Account, world: World) -> None:
    await put(shop, **ANN)
    await put(shop, address="bob@example.org", name='=Bob "the, other"', attributes={"n\u00f6te": "a\nb", "list": [1]})
    await put(shop, address="+cid@example.org", name="'=Cid", attributes={"phone": "+49 30", "d": "O'Hara"})
    rows = list(csv.DictReader(io.StringIO(await export(shop))))
    told = {row["address"]: row for row in rows}
    assert told["Ann@example.org"]["tags"] == "customer;vip" and told["Ann@example.org"]["seats"] == "5"
    assert told["bob@example.org"]["list"] == "[1]" and told["bob@example.org"]["name"].startswith("'=")
    lines = await export(shop, format="ndjson")
    other = await world.open()
    headers = {"content-type": "application/x-ndjson"}
    taken = await other.ask("POST", "/v1/contacts/import", expect=200, content=lines.encode(), headers=headers)
    assert (taken["created"], taken["invalid"]) == (3, 0)

    def sort(text: str) -> list[Any]:
        return sorted(map(json.loads, text.splitlines()), key=lambda each: each["address"])

    assert sort(await export(other, format="ndjson")) == sort(lines)

    def as_text(contact: Any) -> dict[str, str]:
        given = contact["attributes"].items()
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in given}

    back = (await export(other)).encode()
    taken = await other.ask(
        "POST", "/v1/contacts/import", expect=200, content=back, headers={"content-type": "text/csv"}
    )
    assert (taken["rows"], taken["invalid"], taken["created"]) == (3, 0, 0)
    assert sort(await export(other, format="ndjson")) == [{**each, "attributes": as_text(each)} for each in sort(lines)]
    await put(other, address="dan@example.org", attributes={"E-Mail": "dan@example.net"})
    assert "E-Mail" in str(await other.ask("GET", "/v1/contacts/export", expect=422))
    [only] = (await export(shop, tag="vip", format="ndjson")).splitlines()
    assert json.loads(only)["name"] == "Ann"


async def test_who_is_erased_is_gone_everywhere_and_the_proof_does_not_name_him(shop: Account, world: World) -> None:
    made = await put(shop, **ANN)
    headers = {"content-type": "text/csv"}
    listed = b"address\nann@example.org\nbob@example.org\n"
    await shop.ask("POST", "/v1/lists", expect=201, content=listed, headers=headers)
    stranger = await world.open()
    path = f"/v1/contacts/{made['id']}"
    await stranger.ask("DELETE", path, expect=404)
    proof = await shop.ask("DELETE", path, expect=200)
    assert read_counts(proof) == {
        "scheduler.contact": 1,
        "scheduler.mailing_list_entry": 1,
        "scheduler.bulk_mail": 0,
    }
    assert all(each["until"] for each in proof["remains"])
    await shop.ask("GET", path, expect=404)
    assert await shop.ask("DELETE", path, expect=200) == proof
    assert await shop.ask("GET", f"/v1/contacts/erasures/{proof['id']}", expect=200) == proof
    await stranger.ask("GET", f"/v1/contacts/erasures/{proof['id']}", expect=404)
    only_listed = await shop.ask("POST", "/v1/contacts/erasures", expect=200, json={"address": "BOB@example.org"})
    assert read_counts(only_listed)["scheduler.mailing_list_entry"] == 1
    await shop.ask("POST", "/v1/contacts/erasures", expect=404, json={"address": "eve@example.org"})
    page = await shop.ask("GET", "/v1/contacts/erasures", expect=200)
    assert page["data"] == [only_listed, proof]
    kept = await shop.database.fetch("SELECT string_agg(erasure::text, '') AS kept FROM scheduler.erasure")
    assert "ann@" not in str(page).lower() and "example.org" not in kept[0]["kept"]


async def test_contacts_are_an_accounts_own_and_need_the_scope(shop: Account, world: World) -> None:
    made = await put(shop, **ANN)
    stranger = await world.open()
    for method, body in (("GET", None), ("PATCH", {})):
        await stranger.ask(method, f"/v1/contacts/{made['id']}", expect=404, json=body)
    assert await list_addresses(stranger) == [] and await export(stranger) == "address,name,timezone,tags\r\n"
    assert (await put(stranger, **ANN))["id"] != made["id"]
    sender = await world.open(shop.name, scopes=[ApiScope.EMAILS_SEND])
    await put(sender, expect=403, **ANN)
    await shop.ask("GET", f"/v1/contacts/{uuid4()}", expect=404)


async def test_mail_of_a_mailing_does_not_leave_to_who_is_erased_and_says_nothing_more_of_him(shop: Account) -> None:
    made, mailing = await put(shop, **ANN), await shop.create()
    states = ("pending", "failed", "sent", "queued", "cancelled")
    lanes = [(await shop.database.fetch(_LANE.format(state), shop.name, str(uuid4())))[0]["id"] for state in states]
    for lane, state in zip(lanes, states, strict=True):
        await shop.database.fetch(
            """
            INSERT INTO scheduler.bulk_mail (id, lane, state, number, due_at, attempt, own, recipient, detail)
            VALUES ($1, $2, $3, 1, now(), 0, $4, $5, $6)
            """,
            uuid4(),
            lane,
            state,
            None if state == "sent" else b"{}",
            UUID(made["id"]),
            "550 no ann@example.org" if state in ("failed", "sent") else None,
        )
        if state != "cancelled":  # that one's mailing was deleted since
            await shop.set(mailing, f"state = 'running', lane = {lane}")
            mailing = await shop.create()
    proof = await shop.ask("DELETE", f"/v1/contacts/{made['id']}", expect=200)
    assert read_counts(proof)["scheduler.bulk_mail"] == 5
    rows = await shop.database.fetch(
        """
        SELECT mail.state, mail.reason, mail.own, mail.detail, mail.ended_at IS NOT NULL,
               lane.pending, lane.skipped, lane.queued
        FROM scheduler.bulk_mail AS mail JOIN scheduler.bulk_lane AS lane ON lane.id = mail.lane
        WHERE mail.lane = ANY($1::bigint[]) ORDER BY mail.lane
        """,
        lanes,
    )
    assert [tuple(row) for row in rows] == [
        ("skipped", "erased", None, None, True, 0, 1, 0),
        ("failed", None, None, None, False, 0, 0, 0),
        ("sent", None, None, None, False, 0, 0, 0),
        ("queued", None, None, None, False, 0, 0, 1),
        ("cancelled", None, None, None, False, 0, 0, 0),
    ]


async def test_a_contact_says_that_it_has_unsubscribed_and_an_import_does_not_change_that(shop: Account) -> None:
    made = await put(shop, **ANN)
    assert made["unsubscribed_at"] is None
    await shop.database.fetch(
        "INSERT INTO scheduler.unsubscription (recipient, account, source) VALUES ($1, $2, 'page')",
        UUID(made["id"]),
        shop.name,
    )
    again = await put(shop, expect=200, **(ANN | {"name": "Anna"}))
    assert again["unsubscribed_at"]
    await shop.ask("DELETE", f"/v1/contacts/{made['id']}", expect=200)
    assert (await put(shop, **ANN))["unsubscribed_at"] == again["unsubscribed_at"]
