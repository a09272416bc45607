"""Who is blamed for a death, and how a held record comes free again, on real PostgreSQL (R4)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from faust.types import TP

from services.sender.admission import Admission
from services.sender.store import PartitionStore
from shared.database import Database
from shared.lane import Ticket

_TP = TP("email.requested", 0)


class Process:
    """A process reading one partition from `head` on; `read` tells whether its records survive being looked at."""

    def __init__(self, database: Database) -> None:
        self.skipped: list[tuple[int, int]] = []
        self.released: list[int] = []
        self.paused: list[bool] = []
        self.admission = Admission(PartitionStore(database))
        self.admission.on_skip = lambda ticket, deaths: self.skipped.append((ticket.offset, deaths))
        self.admission.on_release = lambda ticket: self.released.append(ticket.offset)
        self.admission.set_paused = lambda tp, paused: self.paused.append(paused)

    async def take(self, offset: int, *, dies: bool = False) -> bool:
        """Whether the record was admitted; one that ends the process never comes to `after`."""
        await self.admission.before(_TP, offset)
        ticket: Ticket[Any] = Ticket(None, _TP, offset, 0, 0, 0.0)
        admitted = self.admission.admit(ticket)
        if admitted and not dies:
            ticket.read = True
            await self.admission.after(ticket)
        return admitted


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


async def read_until_held(database: Database, poison: int, head: int = 0) -> tuple[Process, int]:
    """Processes one after the other read from `head`; nothing is ever committed. Returns the one that holds it."""
    for deaths in range(10):
        process = Process(database)
        for offset in range(head, poison + 1):
            if not await process.take(offset, dies=offset == poison):
                return process, deaths
    raise AssertionError("never held")


async def test_the_culprit_is_held_after_its_deaths_and_its_neighbours_never(database: Database) -> None:
    process, deaths = await read_until_held(database, poison=5)
    assert deaths == 4  # two of them before anybody knew which record it was
    assert process.paused == [True]
    assert "offset 5" in str(await process.admission.check())
    assert await process.take(6), "what lies behind it goes on"


async def test_at_the_head_three_deaths_are_enough(database: Database) -> None:
    assert (await read_until_held(database, poison=0))[1] == 3


async def test_processes_that_die_while_they_wait_for_something_else_blame_nobody(database: Database) -> None:
    for _ in range(8):
        process = Process(database)
        for offset in range(3):
            assert await process.take(offset)


async def test_who_leaves_has_not_died_unless_a_record_is_to_blame(database: Database) -> None:
    for _ in range(8):
        process = Process(database)
        assert await process.take(0, dies=True)
        await process.admission.leave()
    for expected in (True, True, True, False):
        process = Process(database)
        assert await process.take(0, dies=True) is expected
        process.admission.blame()
        await process.admission.leave()


async def test_an_operator_skips_or_releases_what_is_held(database: Database) -> None:
    process, _ = await read_until_held(database, poison=0)
    store = PartitionStore(database)
    assert [(each.offset, each.deaths) for each in await store.list_suspects(_TP.topic)] == [(0, 3)]
    await process.admission.start()
    await store.decide(_TP.topic, _TP.partition, 0, "release")
    async with asyncio.timeout(5):
        while not process.released:
            await asyncio.sleep(0.05)
    assert process.released == [0]
    assert process.paused == [True, False]
    assert await process.admission.check() is None
    await process.admission.stop()

    process, _ = await read_until_held(database, poison=0)
    await process.admission.start()
    await store.decide(_TP.topic, _TP.partition, 0, "skip")
    async with asyncio.timeout(5):
        while not process.skipped:
            await asyncio.sleep(0.05)
    assert process.skipped == [(0, 3)]
    await process.admission.stop()


async def test_a_reader_that_has_lost_the_partition_writes_over_nobody(database: Database) -> None:
    await read_until_held(database, poison=0)
    former, latter = Process(database), Process(database)
    await former.admission.before(_TP, 0)
    await latter.admission.before(_TP, 0)
    reading = former.admission._readings[_TP]
    await former.admission._write(_TP, reading, reading.suspicion.clear())
    assert await PartitionStore(database).list_suspects(_TP.topic)
