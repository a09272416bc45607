"""Unsubscribing over HTTP, on a real PostgreSQL: by a link without a key, and by hand."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.scheduler.contacts.identity import identify_recipient
from services.scheduler.unsubscribing.links import LinkMaker
from tests.support.mailings import CONTENT, Account, World, open_world

SECRET, URL = "s" * 32, "https://mail.example.com"
LINKS = LinkMaker(SECRET, URL)
ONE_CLICK = {"List-Unsubscribe": "One-Click"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
ANN = "ann@example.org"


@pytest.fixture
async def world(module_database_url: str) -> AsyncIterator[World]:
    async with open_world(module_database_url, master_secret=SECRET, public_url=URL, unsubscribe_rate=2) as world:
        yield world


@pytest.fixture
async def shop(world: World) -> Account:
    return await world.open()


def link(shop: Account, mailing: Any, address: str = ANN, *, trial: bool = False) -> str:
    recipient = identify_recipient(shop.name, address)
    return LINKS.begin(shop.name, UUID(mailing["id"]), trial=trial)(recipient).removeprefix(URL)


async def list_them(shop: Account, **query: Any) -> list[Any]:
    return list((await shop.ask("GET", "/v1/unsubscriptions", expect=200, params=query))["data"])


async def test_whoever_looks_changes_nothing_and_the_button_does(shop: Account) -> None:
    mailing = await shop.create(unsubscribe=True)
    path = link(shop, mailing)
    for _ in range(2):
        page = await shop.client.get(path, headers=BROWSER)
        assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
        assert "<button>" in page.text
        assert "Shop &lt;news@example.com&gt;" in page.text
    assert (await shop.client.head(path)).status_code == 200
    assert await list_them(shop) == []
    done = await shop.client.post(path, data={**ONE_CLICK, "from": "page"}, headers=BROWSER)
    assert done.status_code == 200
    assert "<button>" not in (await shop.client.get(path)).text
    [found] = await list_them(shop)
    assert (found["mailing_id"], found["source"]) == (mailing["id"], "page")
    assert "address" not in found


@pytest.mark.parametrize("form", [{"data": ONE_CLICK}, {"files": {"List-Unsubscribe": (None, "One-Click")}}])
async def test_a_mail_program_unsubscribes_with_one_click_however_often(shop: Account, form: Any) -> None:
    await shop.add_contact(ANN)
    first, second = [await shop.create(unsubscribe=True) for _ in range(2)]
    for mailing in (first, first, second):
        answer = await shop.client.post(link(shop, mailing), **form)
        assert answer.status_code == 200
    [found] = await list_them(shop)
    assert (found["address"], found["mailing_id"], found["source"]) == (ANN, first["id"], "one-click")
    assert await list_them(shop, mailing_id=second["id"]) == []
    for mailing, count in ((first, 1), (second, 0)):
        read = await shop.ask("GET", f"/v1/mailings/{mailing['id']}", expect=200)
        assert read["counts"]["unsubscribed"] == count
    contact = await shop.ask("GET", f"/v1/contacts/{found['recipient']}", expect=200)
    assert contact["unsubscribed_at"] == found["unsubscribed_at"]


async def test_nothing_but_the_form_acts(shop: Account) -> None:
    path = link(shop, await shop.create(unsubscribe=True))
    for options in (
        {},
        {"content": b"\xff\xfe"},
        {"data": {"List-Unsubscribe": "no"}},
        {"json": ONE_CLICK},
        {"content": b"--x", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        {"params": ONE_CLICK},
    ):
        answer = await shop.client.post(path, **options)
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/not-one-click"), options
    assert await list_them(shop) == []


async def test_a_bad_link_is_told_as_one_to_people_and_programs(shop: Account) -> None:
    whole = link(shop, await shop.create(unsubscribe=True))
    for path in (whole[:-5], "/unsubscribe/x", whole + "x"):
        for ask in (shop.client.get(path), shop.client.post(path, data=ONE_CLICK)):
            answer = await ask
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-link")
    page = await shop.client.get(whole[:-5], headers=BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "not whole" in page.text


async def test_the_link_of_a_test_mail_unsubscribes_nobody(shop: Account) -> None:
    path = link(shop, await shop.create(unsubscribe=True), trial=True)
    assert "test mail" in (await shop.client.get(path)).text
    assert (await shop.client.post(path, data=ONE_CLICK)).status_code == 200
    assert await list_them(shop) == []


async def test_a_link_outlives_its_mailing_and_its_contact(shop: Account) -> None:
    mailing = await shop.create(unsubscribe=True)
    await shop.ask("DELETE", f"/v1/mailings/{mailing['id']}", expect=204)
    answer = await shop.client.post(link(shop, mailing), data=ONE_CLICK)
    assert answer.status_code == 200
    assert len(await list_them(shop)) == 1


async def test_whoever_asks_too_often_is_told_to_wait(shop: Account) -> None:
    answers = [await shop.client.get("/unsubscribe/x") for _ in range(21)]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_who_has_unsubscribed_is_counted_in_every_audience_until_he_comes_back(shop: Account) -> None:
    recipient = await shop.add_contact(ANN, "Ann", plan="pro")
    await shop.add_contact("bob@example.org", "Bob", plan="pro")
    mailing = await shop.create(unsubscribe=True)
    report = await shop.ask("POST", "/v1/unsubscriptions", expect=200, json={"addresses": ["ANN@example.org", ANN]})
    assert report == {"added": 1, "known": 0}
    checked = await shop.check(mailing)
    assert (checked["recipients"], checked["unsubscribed"], checked["mails"]) == (2, 1, 1)
    [found] = await list_them(shop, address="Ann@Example.org")
    assert (found["recipient"], found["source"], found.get("mailing_id")) == (str(recipient), "manual", None)
    await shop.ask("DELETE", f"/v1/unsubscriptions/{recipient}", expect=204)
    await shop.ask("DELETE", f"/v1/unsubscriptions/{recipient}", expect=404)
    assert (await shop.check(mailing))["unsubscribed"] == 0


async def test_unsubscriptions_are_listed_newest_first_and_only_the_accounts_own(shop: Account, world: World) -> None:
    addresses = [f"u{number}@example.org" for number in range(3)]
    for address in addresses:
        await shop.ask("POST", "/v1/unsubscriptions", expect=200, json={"addresses": [address]})
    first = await shop.ask("GET", "/v1/unsubscriptions?limit=2", expect=200)
    rest = await list_them(shop, after=first["next"])
    expected = [str(identify_recipient(shop.name, address)) for address in reversed(addresses)]
    assert [each["recipient"] for each in (*first["data"], *rest)] == expected
    stranger, tester = await world.open(), await world.open(shop.name, test=True)
    assert await list_them(stranger) == []
    await stranger.ask("DELETE", f"/v1/unsubscriptions/{expected[0]}", expect=404)
    for method, path in (("POST", ""), ("DELETE", f"/{expected[0]}")):
        refused = await tester.ask(method, f"/v1/unsubscriptions{path}", expect=403, json={"addresses": [ANN]})
        assert refused["type"] == "/problems/test-key"
    assert await shop.refuse("POST", "/v1/unsubscriptions", {"addresses": ["nobody"]}) == ["/addresses/0"]
    assert await shop.refuse("POST", "/v1/unsubscriptions", {"addresses": []}) == ["/addresses"]


async def test_a_mailing_says_how_to_unsubscribe_by_its_link_alone(shop: Account) -> None:
    sample = {"recipient": {"address": ANN, "name": "Ann", "variables": {"plan": "pro"}}}
    content = {**CONTENT, "html": '<a href="{{ unsubscribe_url }}">Leave</a>'}
    mailing = await shop.create(unsubscribe=True, content=content)
    await shop.add_contact(ANN, "Ann", plan="pro")
    shown = await shop.ask("POST", f"/v1/mailings/{mailing['id']}/preview", expect=200, json=sample)
    assert shown["errors"] == []
    assert "unsubscribe" in shown["html"]
    checked = await shop.check(mailing)
    assert (checked["ready"], checked["missing"], checked["template_errors"]) == (True, [], [])
    body = {"name": "x", "content": {**CONTENT, "headers": {"List-unsubscribe": "<mailto:a@x.org>"}}, "audience": {}}
    assert await shop.refuse("POST", "/v1/mailings", {**body, "unsubscribe": True}) == [
        "/content/headers/List-unsubscribe"
    ]
    await shop.ask("POST", "/v1/mailings", expect=201, json=body)


async def test_where_links_would_lead_nowhere_a_mailing_cannot_be_started_that_wants_them(
    module_database_url: str,
) -> None:
    async with open_world(module_database_url) as world:
        shop = await world.open()
        await shop.add_contact(ANN, "Ann", plan="pro")
        checked = await shop.check(await shop.create(unsubscribe=True))
        assert (checked["ready"], [each["pointer"] for each in checked["problems"]]) == (False, ["/unsubscribe"])
        assert "MILENA_PUBLIC_URL" in checked["problems"][0]["detail"]
        assert (await shop.check(await shop.create()))["ready"]
        answer = await shop.client.get(link(shop, {"id": str(uuid4())}))
        assert answer.status_code == 404
