"""Leases of a relay's limits on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.sender.shares import PACED, Limits, Share, Wish
from services.sender.store.shares import Report, ShareStore
from shared.database import Database

LIMITS = [Limits("first", "smtp", 0, 20, 50.0), Limits("second", "http", 1, 4)]
LEASE = timedelta(seconds=1)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[ShareStore]:
    database = Database(database_url, pool_size=4)
    yield ShareStore(database)
    await database.close()


async def ask(store: ShareStore, process: UUID, slot: int = 0, opened: int = 0) -> dict[str, Share]:
    reports = [
        Report("first", Wish(process, 20, 50.0, opened), "open", "the relay answered 421", 3.5, 10.0),
        Report("second", Wish(process, 4, 0.0)),
    ]
    return await store.lease(LIMITS, slot, reports, LEASE)


async def test_shares_are_leased_told_of_and_given_back(store: ShareStore) -> None:
    one, two = uuid4(), uuid4()
    await store.join(LIMITS, 0, one)
    await store.join(LIMITS, 1, two)
    assert await ask(store, one) == {"first": Share(20, 50 * PACED, 20), "second": Share(4, None, 4)}
    assert (await ask(store, two, 1))["first"] == Share(0, 0.0, 0)
    assert (await ask(store, one, opened=10))["first"] == Share(10, 25 * PACED, 10)
    assert (await ask(store, two, 1))["first"] == Share(10, 25 * PACED, 10)
    first, second = await store.list_relays()
    assert (first.name, first.kind, first.connections, first.mails_per_second) == ("first", "smtp", 20, 50)
    assert (second.name, second.priority, second.mails_per_second) == ("second", 1, None)
    mine = first.processes[0]
    assert (mine.slot, mine.process, mine.state, mine.error) == (0, one, "open", "the relay answered 421")
    assert (mine.open_connections, mine.connections, mine.sent_rate, mine.slowed_to) == (10, 10, 3.5, 10.0)
    await store.leave(one)
    assert (await ask(store, two, 1, opened=10))["first"] == Share(20, 50 * PACED, 20)


async def test_a_dead_process_loses_its_part_with_its_lease_and_at_once_to_its_successor(store: ShareStore) -> None:
    dead, other, heir = uuid4(), uuid4(), uuid4()
    await store.join(LIMITS, 0, dead)
    await ask(store, dead, opened=20)
    assert (await ask(store, other, 1))["first"].connections == 0
    await store.join(LIMITS, 0, heir)
    assert (await ask(store, heir))["first"].connections == 20 / 2
    await asyncio.sleep(LEASE.total_seconds() + 0.1)
    assert (await ask(store, other, 1))["first"].connections == 20
    assert [each.process for each in (await store.list_relays())[0].processes] == [other]


async def test_many_that_ask_at_once_never_hold_more_than_there_is(store: ShareStore) -> None:
    processes = [uuid4() for _ in range(4)]
    await store.join(LIMITS, 0, processes[0])
    for _ in range(3):
        shares = await asyncio.gather(*(ask(store, each, slot) for slot, each in enumerate(processes)))
        assert sum(each["first"].connections for each in shares) <= 20
        assert sum(each["first"].rate or 0 for each in shares) <= 50
    assert [each["first"].connections for each in shares] == [5, 5, 5, 5]
