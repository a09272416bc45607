"""Mailings over days and hours that a test moves by: all over the world, with a change of the clocks, and outages.

Everything of the scheduler is real, its PostgreSQL too; only what comes behind the topic is played, as its contract has
it: a sender tries until `expires_at`, and says what became of it.
"""

import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from services.scheduler.pacing.settling_store import Result
from services.scheduler.pacing.states import BulkState
from services.scheduler.pacing.store import QueuedMail
from tests.support.mailing_machine import Machine
from tests.support.mailings import open_world
from tests.support.moved_clock import MovedClock

ZONES = (
    *("Pacific/Pago_Pago", "Pacific/Honolulu", "America/Anchorage", "America/Los_Angeles", "America/Denver"),
    *("America/Chicago", "America/New_York", "America/Santiago", "America/St_Johns", "America/Sao_Paulo"),
    *("Atlantic/South_Georgia", "Atlantic/Azores", "Europe/London", "Europe/Berlin", "Europe/Kyiv", "Europe/Moscow"),
    *("Asia/Tehran", "Asia/Dubai", "Asia/Kathmandu", "Asia/Dhaka", "Asia/Bangkok", "Asia/Tokyo"),
    *("Australia/Lord_Howe", "Pacific/Auckland"),
)
RETRIES = [timedelta(minutes=minutes) for minutes in (10, 30, 60)]
STEP = timedelta(minutes=15)
Answer = Callable[[str, datetime], str]
"""What the relay says of an address at a time: taken, later, refused, or away."""


@dataclass
class Held:
    """A mail that the sender has. `at`: its next attempt."""

    mail: QueuedMail
    at: datetime
    attempt: int = 0


@dataclass
class Sender:
    """Tries each mail until it is taken, refused, or has expired; while the relay is away nothing is heard of it."""

    answer: Answer
    held: dict[UUID, Held] = field(default_factory=dict)
    taken: list[tuple[str, datetime]] = field(default_factory=list)
    given: Counter[UUID] = field(default_factory=Counter)

    def take(self, mails: list[QueuedMail], now: datetime) -> None:
        """They have come from the topic. Of one that it has already the ledger knows."""
        for mail in mails:
            self.given[mail.id] += 1
            self.held.setdefault(mail.id, Held(mail, now))

    def work(self, now: datetime) -> list[Result]:
        """What is to be told now."""
        results = [self._try(each, now) for each in [*self.held.values()] if each.at <= now]
        return [result for result in results if result]

    def _try(self, held: Held, now: datetime) -> Result | None:
        mail = held.mail
        address = json.loads(mail.own)["to"].rpartition("<")[2].rstrip(">")
        said = "expired" if now >= mail.expires_at else self.answer(address, now)
        if said == "away":
            return None
        held.attempt += 1
        if said == "later":
            held.at = now + RETRIES[min(held.attempt, len(RETRIES)) - 1]
            return Result(str(mail.id), BulkState.DEFERRED, held.attempt, "deferred", "451 later")
        del self.held[mail.id]
        if said == "taken":
            self.taken.append((address, now))
            return Result(str(mail.id), BulkState.SENT, held.attempt)
        if said == "expired":
            return Result(str(mail.id), BulkState.EXPIRED, held.attempt, "expired", None)
        return Result(str(mail.id), BulkState.FAILED, held.attempt, "rejected", "550 no such user")


@dataclass
class Days:
    """A machine, and the clock it goes by."""

    machine: Machine
    clock: MovedClock

    async def go_on(self, sender: Sender, by: timedelta) -> int:
        """So much time goes by, and all do their work; returns how many mails left."""
        await self.clock.go_on(by)
        account, engine = self.machine.shop.name, self.machine.engine
        await engine.start(account)
        await engine.send(account)
        left = 0
        while mails := await self.machine.take():
            left += len(mails)
            sender.take(mails, await self.clock.read())
            await self._settle(sender)
        await self._settle(sender)
        await engine.finish(account)
        return left

    async def _settle(self, sender: Sender) -> None:
        results = sender.work(await self.clock.read())
        await self.machine.settling.settle(sorted(results, key=lambda each: each.id))


@pytest.fixture
async def days(empty_clock: MovedClock, database_url: str) -> AsyncIterator[Days]:
    async with open_world(database_url) as world:
        yield Days(Machine(await world.open()), empty_clock)


@pytest.fixture
async def empty_clock(database_url: str) -> AsyncIterator[MovedClock]:
    clock = await MovedClock.set_up(database_url)
    yield clock
    await clock.close()


async def test_nobody_gets_mail_outside_his_hours_or_after_the_end_all_over_the_world(days: Days) -> None:
    """The clocks change in Europe on the second night, in the midst of the hours; the relay is away on the first."""
    begin = datetime(2027, 3, 27, tzinfo=UTC)
    works_from, finish = begin + timedelta(days=1), begin + timedelta(days=3)
    opens, closes = time(1, 30), time(4)
    await days.clock.set(begin)
    zones: dict[str, str] = {}
    for zone in ZONES:
        for number in range(3):
            address = f"u{number}.{zone.replace('/', '.')}@example.org".lower()
            recipient = await days.machine.shop.add_contact(address, "Ann")
            query = "UPDATE scheduler.contact SET timezone = $2 WHERE id = $1"
            await days.machine.database.fetch(query, recipient, zone)
            zones[address] = zone
    luck = random.Random(7)

    def answer(address: str, now: datetime) -> str:
        if now < works_from:
            return "away"
        if address.startswith("u0.") and zones[address].startswith("America"):
            return "refused"
        return "later" if luck.random() < 0.6 else "taken"

    sender = Sender(answer)
    mailing = await days.machine.begin(
        hours={"from": "01:30", "to": "04:00", "timezone": "UTC"}, finish_at=finish.isoformat()
    )
    while await days.clock.read() < finish + timedelta(hours=2):
        await days.go_on(sender, STEP)
    for address, moment in sender.taken:
        local = moment.astimezone(ZoneInfo(zones[address]))
        assert opens <= local.time() < closes, (address, local)
        assert works_from <= moment < finish
    assert max(Counter(address for address, _ in sender.taken).values()) == 1
    counts = await days.machine.count(mailing)
    refused = sum(zone.startswith("America") for zone in ZONES)
    assert counts["sent"] == len(sender.taken) > 2 * (len(zones) - refused) / 3
    assert counts["failed"] == refused
    assert sum(counts.values()) == counts["sent"] + refused + counts.get("expired", 0) == len(zones)
    assert (await days.machine.read(mailing))["state"] == "finished"
    berlin = [moment for address, moment in sender.taken if "berlin" in address]
    assert any(moment.date() == works_from.date() for moment in berlin), "nobody got it on the day of the change"


async def test_while_the_relay_is_away_nothing_piles_up_and_afterwards_everybody_gets_one(days: Days) -> None:
    """An hour, while the job that repeats what nothing was heard of runs every minute."""
    begin = datetime(2027, 6, 1, 12, tzinfo=UTC)
    back = begin + timedelta(hours=1)
    await days.clock.set(begin)
    addresses = {f"u{number}@example.org" for number in range(300)}
    for address in addresses:
        await days.machine.shop.add_contact(address, "Ann")
    sender = Sender(lambda _, now: "away" if now < back else "taken")
    mailing = await days.machine.begin()
    minutes = 0
    while await days.clock.read() < back - timedelta(minutes=1):
        await days.go_on(sender, timedelta(minutes=1))
        minutes += 1
    [window] = await days.machine.database.fetch("SELECT size FROM scheduler.bulk_window")
    assert len(sender.held) <= window["size"] + minutes, "beside the window one mail a minute is tried"
    for _ in range(15):
        await days.go_on(sender, timedelta(minutes=1))
    assert await days.machine.count(mailing) == {"sent": 300}
    assert (await days.machine.read(mailing))["state"] == "finished"
    assert Counter(address for address, _ in sender.taken) == dict.fromkeys(addresses, 1)
    assert set(sender.given.values()) == {1}, "something was handed out twice"
