"""The client's contacts, lists and mailings at the real API, with a real PostgreSQL."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest

from milena import AsyncClient, Conflict, InvalidContent, NotFound
from tests.support.mailing_machine import Machine
from tests.support.mailings import CONTENT, Account, open_world


@pytest.fixture
async def shop(module_database_url: str) -> AsyncIterator[Account]:
    async with open_world(module_database_url) as world:
        yield await world.open()


@pytest.fixture
async def milena(shop: Account) -> AsyncIterator[AsyncClient]:
    async with AsyncClient("http://x", shop.secret, transport=shop.client._transport) as client:
        yield client


async def test_contacts_are_made_imported_found_exported_and_erased(milena: AsyncClient) -> None:
    ann = await milena.contacts.put("Ann@example.org", name="Ann", tags=["vip"], attributes={"plan": "pro", "seats": 2})
    rows = [{"address": f"r{n}@example.org", "tags": ["new"]} for n in range(30)]
    imported = await milena.contacts.upload([*rows, {"address": "nobody"}], name="July")
    assert (imported["created"], imported["invalid"], len(imported["problems"])) == (30, 1, 1)
    assert (await milena.contacts.upload(rows))["unchanged"] == 30
    assert len([each async for each in milena.contacts.iterate()]) == 31
    assert [each async for each in milena.contacts.iterate(tags=["vip"], attributes={"plan": "pro"})] == [ann]
    assert await milena.contacts.find("ann@EXAMPLE.org") == ann
    changed = await milena.contacts.change(ann["id"], attributes={"seats": None})
    assert (await milena.contacts.read(ann["id"]), changed["attributes"]) == (changed, {"plan": "pro"})
    exported = b"".join([piece async for piece in milena.contacts.export(tags=["new"])]).decode()
    assert {row["address"] for row in csv.DictReader(io.StringIO(exported))} == {row["address"] for row in rows}
    assert (await milena.contacts.erase(ann["id"]))["contact"] == ann["id"]
    with pytest.raises(NotFound):
        await milena.contacts.read(ann["id"])


async def test_a_mailing_is_made_tried_run_and_followed(milena: AsyncClient, shop: Account) -> None:
    winners = await milena.lists.upload(b"address,name,plan\nann@example.org,Ann,pro\nbob@example.org,Bob,free\n")
    assert [each["id"] async for each in milena.lists.iterate()] == [winners["id"]]
    assert (await milena.lists.read(winners["id"]))["recipients"] == 2
    content: Any = {**CONTENT, "from_": CONTENT["from"]}
    del content["from"]
    mailing = await milena.mailings.create(name="Spring", content=content, audience={"list": winners["id"]})
    with pytest.raises(Conflict):
        await milena.lists.delete(winners["id"])
    with pytest.raises(InvalidContent):
        await milena.mailings.change(mailing.id, content={"text": "{{ x"})
    assert (await milena.mailings.change(mailing.id, rate=10)).document["rate"] == 10
    assert (await milena.mailings.preview(mailing.id, address="bob@example.org"))["text"] == "Your free plan."
    assert len(await milena.mailings.test(mailing.id, ["me@example.com"])) == 1
    assert (await milena.mailings.check(mailing.id))["ready"]
    assert (await milena.mailings.start(mailing.id)).state == "scheduled"
    machine = Machine(shop)
    await machine.engine.start(shop.name)
    assert (await milena.mailings.pause(mailing.id)).state == "paused"
    assert (await milena.mailings.resume(mailing.id)).state == "running"
    mails = [*await machine.drain(), *await machine.drain()]
    await machine.database.fetch("UPDATE scheduler.bulk_lane SET tokens = 10")
    await machine.settle([*mails, *await machine.drain()])
    await machine.engine.finish(shop.name)
    [ended] = [each async for each in milena.mailings.follow(mailing.id)]
    assert (ended.is_over, ended.percent, ended.counts["success"], ended.name) == (True, 100.0, 2, "Spring")
    assert await milena.mailings.wait(mailing.id) == await milena.mailings.read(mailing.id)
    recipients = [each["address"] async for each in milena.mailings.recipients(mailing.id, state="success")]
    assert sorted(recipients) == ["ann@example.org", "bob@example.org"]
    assert (await milena.mailings.stats())["total"]["sent"] == 2
    for refused in (milena.mailings.cancel(mailing.id), milena.mailings.retry(mailing.id)):
        with pytest.raises(Conflict):
            await refused
    assert [each.id async for each in milena.mailings.iterate(state="finished")] == [mailing.id]
    draft = await milena.mailings.create(name="No", content=content, audience={})
    await milena.mailings.delete(draft.id)
    assert [each.id async for each in milena.mailings.iterate()] == [mailing.id]
