"""The due loop against a real PostgreSQL: who acts on a row, and what happens when something goes away."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from shared.database import Database
from shared.due import DueLoop, DueRow, DueTable
from tests.support.outage import DatabaseProxy

LEASE = timedelta(seconds=30)
TABLE = DueTable("public.errand", where="state = 'pending'")


@pytest.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    database = Database(empty_database_url)
    await database.fetch(
        """
        CREATE TABLE errand (id uuid PRIMARY KEY, due_at timestamptz NOT NULL, state text NOT NULL DEFAULT 'pending',
                             lease_token uuid, lease_until timestamptz)
        """
    )
    yield database
    await database.close()


async def add_rows(database: Database, count: int, due_in: timedelta = timedelta(0)) -> list[UUID]:
    ids = [uuid4() for _ in range(count)]
    await database.fetch("INSERT INTO errand (id, due_at) SELECT unnest($1::uuid[]), now() + $2", ids, due_in)
    return ids


async def wait_until(holds: Callable[[], bool] | Callable[[], Awaitable[bool]], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = holds()
        if found if isinstance(found, bool) else await found:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("did not happen in time")


async def test_several_loops_never_act_twice_on_a_leased_row(database: Database, empty_database_url: str) -> None:
    ids = await add_rows(database, 400)
    acted: Counter[UUID] = Counter()
    databases = [Database(empty_database_url, pool_size=2) for _ in range(4)]

    def act_through(own: Database) -> Callable[[list[DueRow]], Awaitable[None]]:
        async def act(rows: list[DueRow]) -> None:
            acted.update(row.id for row in rows)
            await asyncio.sleep(0.005)
            await TABLE.finish(own, rows)

        return act

    loops = [
        DueLoop(f"loop-{n}", own, TABLE, act_through(own), lease=LEASE, free=lambda: 7)
        for n, own in enumerate(databases)
    ]
    for loop in loops:
        await loop.start()
    await wait_until(lambda: sum(acted.values()) >= 400)
    await asyncio.gather(*(loop.stop() for loop in loops))
    for own in databases:
        await own.close()
    assert acted == Counter(ids)
    assert await database.fetch("SELECT * FROM errand") == []


async def test_rows_come_oldest_first_and_not_before_their_time(database: Database) -> None:
    later = await add_rows(database, 1, timedelta(seconds=-5))
    sooner = await add_rows(database, 1, timedelta(seconds=-50))
    await add_rows(database, 1, timedelta(seconds=50))
    assert [row.id for row in await TABLE.lease(database, 10, LEASE)] == sooner + later


async def test_a_lease_takes_no_more_bytes_than_it_may_or_one_row_that_has_more(database: Database) -> None:
    ids = [(await add_rows(database, 1, timedelta(seconds=ago)))[0] for ago in (-50, -40, -30, -20)]
    sizes = f"CASE id WHEN '{ids[0]}' THEN 4 WHEN '{ids[2]}' THEN 30 ELSE 5 END"
    table = DueTable("public.errand", where="state = 'pending'", size=sizes, most_bytes=10)
    for expected in ([ids[0], ids[1]], [ids[2]], [ids[3]], []):
        assert [row.id for row in await table.lease(database, 10, LEASE)] == expected


async def test_an_unfinished_row_comes_again_after_its_lease_and_not_before(database: Database) -> None:
    (row_id,) = await add_rows(database, 1)
    (first,) = await TABLE.lease(database, 10, timedelta(milliseconds=400))
    assert await TABLE.lease(database, 10, LEASE) == []
    await asyncio.sleep(0.5)
    (second,) = await TABLE.lease(database, 10, LEASE)
    assert first.id == second.id == row_id
    assert await TABLE.finish(database, [first]) == set()
    assert await TABLE.renew(database, [first], LEASE) == set()
    assert await TABLE.finish(database, [second]) == {row_id}


async def test_a_lease_marks_the_row_only_while_its_condition_still_holds(database: Database) -> None:
    ids = await add_rows(database, 2)
    marking = DueTable("public.errand", where="state IN ('pending', 'releasing')", mark="state = 'releasing'")
    cancelled = "UPDATE errand SET state = 'cancelled' WHERE id = $1 AND state = 'pending' RETURNING id"
    assert len(await database.fetch(cancelled, ids[0])) == 1
    rows = await marking.lease(database, 10, LEASE)
    assert [row.id for row in rows] == [ids[1]]
    assert rows[0].columns["state"] == "releasing"
    assert await database.fetch(cancelled, ids[1]) == []


async def test_stop_waits_for_the_handler_at_work(database: Database) -> None:
    await add_rows(database, 1)
    began, finished = asyncio.Event(), asyncio.Event()

    async def act(rows: list[DueRow]) -> None:
        began.set()
        await asyncio.sleep(0.5)
        await TABLE.finish(database, rows)
        finished.set()

    loop = DueLoop("slow", database, TABLE, act, lease=LEASE)
    await loop.start()
    await began.wait()
    await loop.stop()
    assert finished.is_set()
    assert await database.fetch("SELECT * FROM errand") == []


async def test_an_idle_loop_stops_at_once(database: Database) -> None:
    async def act(rows: list[DueRow]) -> None:
        raise AssertionError("nothing is due")

    loop = DueLoop("idle", database, TABLE, act, lease=LEASE, idle=timedelta(seconds=30))
    await loop.start()
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await loop.stop()
    assert time.monotonic() - started < 1


async def test_a_row_leased_while_stopping_is_given_back(database: Database) -> None:
    await add_rows(database, 1)
    acted: list[DueRow] = []

    async def act(rows: list[DueRow]) -> None:
        acted.extend(rows)

    class SlowTable(DueTable):
        async def lease(self, database: Database, limit: int, lease: timedelta) -> list[DueRow]:
            rows = await super().lease(database, limit, lease)
            await asyncio.sleep(0.3)
            return rows

    loop = DueLoop("leasing", database, SlowTable(TABLE.name, TABLE.where), act, lease=LEASE)
    await loop.start()
    await asyncio.sleep(0.15)
    await loop.stop()
    assert acted == []
    assert len(await TABLE.lease(database, 10, LEASE)) == 1


async def test_wake_ends_the_pause(database: Database) -> None:
    acted = asyncio.Event()

    async def act(rows: list[DueRow]) -> None:
        await TABLE.finish(database, rows)
        acted.set()

    loop = DueLoop("woken", database, TABLE, act, lease=LEASE, idle=timedelta(seconds=30))
    await loop.start()
    await asyncio.sleep(0.1)
    await add_rows(database, 1)
    loop.wake()
    async with asyncio.timeout(2):
        await acted.wait()
    await loop.stop()


async def test_a_failing_handler_does_not_end_the_loop(database: Database) -> None:
    poison, *_ = await add_rows(database, 1)
    done: set[UUID] = set()

    async def act(rows: list[DueRow]) -> None:
        if any(row.id == poison for row in rows):
            raise RuntimeError("a bug")
        done.update(await TABLE.finish(database, rows))

    loop = DueLoop("buggy", database, TABLE, act, lease=LEASE)
    await loop.start()
    await asyncio.sleep(0.2)
    (good,) = await add_rows(database, 1)
    await wait_until(lambda: good in done)
    await loop.stop()


async def test_the_loop_survives_an_outage_of_the_database(database: Database, empty_database_url: str) -> None:
    done: set[UUID] = set()
    async with DatabaseProxy(empty_database_url) as proxy:
        own = Database(proxy.url)

        async def act(rows: list[DueRow]) -> None:
            done.update(await TABLE.finish(own, rows))

        loop = DueLoop("outage", own, TABLE, act, lease=LEASE)
        await loop.start()
        before = set(await add_rows(database, 3))
        await wait_until(lambda: done >= before)
        await proxy.cut()
        after = set(await add_rows(database, 3))
        await asyncio.sleep(1.5)
        assert not done & after
        await proxy.mend()
        await wait_until(lambda: done >= after)
        await loop.stop()
        await own.close()


async def test_the_loop_stops_while_the_database_is_away(database: Database, empty_database_url: str) -> None:
    async def act(rows: list[DueRow]) -> None:
        raise AssertionError("nothing can be leased")

    async with DatabaseProxy(empty_database_url) as proxy:
        own = Database(proxy.url)
        await proxy.cut()
        loop = DueLoop("away", own, TABLE, act, lease=LEASE)
        await loop.start()
        await asyncio.sleep(0.3)
        started = time.monotonic()
        await loop.stop()
        assert time.monotonic() - started < 2
        await own.close()
