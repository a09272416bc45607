"""A mailing is watched as it runs, and its end is told, whoever dies in between; on a real PostgreSQL."""

import json
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

import pytest

from services.scheduler.mailings.course.ending import LOOKS, create_mailing_watch
from services.scheduler.pacing.states import BulkState
from shared.access import ApiScope, digest_key
from shared.live import TicketOffice
from shared.producing import Message
from shared.publisher import PublisherUnavailable
from tests.support.mailing_machine import Machine
from tests.support.mailings import World, open_world
from tests.support.stack import MASTER_SECRET


class Teller:
    """A worker's looks, with a stand-in for its publisher."""

    def __init__(self, machine: Machine) -> None:
        self.database = machine.database
        self.messages: list[Message] = []
        self.away = False
        self.watch = create_mailing_watch(machine.database, self, "schedule.tick")  # type: ignore[arg-type]

    async def publish_all(self, messages: Iterable[Message]) -> None:
        if self.away:
            raise PublisherUnavailable("kafka")
        self.messages += messages

    async def look(self) -> int:
        """What is due is looked at; returns how many that were."""
        rows = await LOOKS.lease(self.database, 100, timedelta(seconds=30))
        await self.watch.look(rows)
        return len(rows)

    def told(self) -> list[tuple[str, dict[str, int]]]:
        values = [json.loads(message.value) for message in self.messages]
        return [(each["state"], {name: n for name, n in each["counts"].items() if n}) for each in values]

    def ids(self) -> list[bytes]:
        return [dict(message.headers)["ce_id"] for message in self.messages]


@pytest.fixture
async def world(module_database_url: str) -> AsyncIterator[World]:
    async with open_world(module_database_url, master_secret=MASTER_SECRET) as world:
        yield world


async def begin(machine: Machine, recipients: int) -> Any:
    await machine.add_contacts(recipients)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    return mailing


async def test_progress_is_seen_and_the_end_is_told_until_somebody_has_heard_it(machine: Machine) -> None:
    teller, mailing = Teller(machine), await begin(machine, 4)
    mails = await machine.drain()
    assert await teller.look() == 1
    await machine.settle(mails[:2])
    await machine.database.fetch("UPDATE scheduler.mailing SET due_at = now(), sampled_at = now() - interval '1 s'")
    await teller.look()
    progress = (await machine.read(mailing))["progress"]
    assert (progress["percent"], progress["rate"] > 0, "estimated_end" in progress) == (50.0, True, True)
    await machine.settle(mails[2:], BulkState.FAILED, "rejected")
    assert teller.messages == []
    await machine.engine.finish(machine.shop.name)
    teller.away = True  # as if the process died between the commit and Kafka's word
    with pytest.raises(PublisherUnavailable):
        await teller.look()
    assert (await machine.read(mailing))["progress"] == {"percent": 100.0}
    teller.away = False
    assert await teller.look() == 0  # its lease
    await machine.database.fetch("UPDATE scheduler.mailing SET due_at = now(), lease_until = NULL")
    assert await teller.look() == 1
    [message] = teller.messages
    value = json.loads(message.value)
    assert (message.topic, message.key) == ("schedule.tick", mailing["id"].encode())
    assert dict(message.headers)["ce_type"] == b"mailing.finished"
    assert (value["mailing_id"], value["name"], value["account"]) == (mailing["id"], "Spring", machine.shop.name)
    assert value["created_at"] <= value["started_at"] <= value["finished_at"]
    assert teller.told() == [("finished", {"recipients": 4, "sent": 2, "failed": 2})]
    assert await teller.look() == 0


async def test_told_twice_it_is_one_event_and_tried_again_another(machine: Machine) -> None:
    teller, mailing = Teller(machine), await begin(machine, 2)
    await machine.settle(await machine.drain(), BulkState.FAILED, "rejected")
    await machine.engine.finish(machine.shop.name)
    await teller.look()
    await machine.shop.set(mailing, "told_at = NULL, due_at = now()")
    await teller.look()
    await machine.do(mailing, "retry")
    assert "percent" in (await machine.read(mailing))["progress"]
    await machine.engine.start(machine.shop.name)
    await machine.settle(await machine.drain())
    await machine.engine.finish(machine.shop.name)
    await teller.look()
    failed, sent = ("finished", {"recipients": 2, "failed": 2}), ("finished", {"recipients": 2, "sent": 2})
    assert teller.told() == [failed, failed, sent]
    first, again, second = teller.ids()
    assert first == again != second


async def test_who_tries_it_again_while_its_end_is_told_hears_of_the_next_end_too(machine: Machine) -> None:
    teller, mailing = Teller(machine), await begin(machine, 1)
    await machine.settle(await machine.drain(), BulkState.FAILED, "rejected")
    await machine.engine.finish(machine.shop.name)
    rows = await LOOKS.lease(machine.database, 1, timedelta(seconds=30))
    await machine.do(mailing, "retry")
    await teller.watch.look(rows)
    await machine.engine.start(machine.shop.name)
    await machine.settle(await machine.drain())
    await machine.engine.finish(machine.shop.name)
    assert (await machine.read(mailing))["state"] == "finished"
    await teller.look()
    assert teller.told() == [("finished", {"recipients": 1, "sent": 1})]


async def test_a_cancelled_mailing_is_told_too_also_one_that_never_began(machine: Machine) -> None:
    teller, running = Teller(machine), await begin(machine, 3)
    mails = await machine.drain()
    await machine.do(running, "cancel")
    await teller.look()
    assert teller.messages == []
    await machine.settle(mails)
    waiting = await machine.begin(start_at="2099-01-01T00:00:00Z")
    await machine.do(waiting, "cancel")
    await machine.engine.finish(machine.shop.name)
    await teller.look()
    assert sorted(teller.told(), key=str) == [
        ("cancelled", {"recipients": 3, "sent": 3}),
        ("cancelled", {}),
    ]


async def test_a_page_watches_with_a_ticket_for_mailings_and_is_sent_away_once_it_knows_the_end(
    machine: Machine, world: World
) -> None:
    mailing = await begin(machine, 2)
    await machine.settle(await machine.drain())
    await machine.engine.finish(machine.shop.name)
    path, client = f"/v1/mailings/{mailing['id']}/events", machine.shop.client
    tickets = {
        scope: TicketOffice(MASTER_SECRET).issue(digest_key(machine.shop.secret), scope)[0]
        for scope in (ApiScope.MAILINGS_ADMIN, ApiScope.EMAILS_READ)
    }
    query = {"ticket": tickets[ApiScope.MAILINGS_ADMIN]}
    stream = await client.get(path, params=query)
    assert stream.headers["content-type"].startswith("text/event-stream")
    fields = dict(line.split(": ", 1) for line in stream.text.splitlines() if ": " in line)
    told, shown = json.loads(fields["data"]), await machine.read(mailing)
    assert fields["event"] == "mailing.finished"
    assert told == {name: shown[name] for name in told}
    assert (told["progress"]["percent"], told["counts"]["success"]) == (100.0, 2)
    assert (await client.get(path, params={**query, "last_event_id": fields["id"]})).status_code == 204
    assert (await client.get(path, params={"ticket": tickets[ApiScope.EMAILS_READ]})).status_code == 403
    stranger = await world.open()
    refused = await stranger.ask("GET", path, expect=404)
    assert refused["detail"] == "Your account has no such mailing."
