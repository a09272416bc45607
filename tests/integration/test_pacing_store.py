"""The window, the lanes' counters and the states of bulk mail on real PostgreSQL, whoever changes them (R2, R7)."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.pacing.fairness import share_out
from services.scheduler.pacing.lanes import LaneKey, LaneKind
from services.scheduler.pacing.rows import BulkRow, merge_rows
from services.scheduler.pacing.settling_store import Result, SettlingStore
from services.scheduler.pacing.states import BulkState
from services.scheduler.pacing.store import CANCELLATIONS, RELEASES, PacingStore
from services.scheduler.pacing.window import LEAST
from shared.database import Database
from shared.due import DueRow
from tests.support.servers import RealServers

LEASE, DAY = timedelta(seconds=30), timedelta(days=1)
JUNE, JULY, OTHERS = (
    LaneKey("shop", LaneKind.BATCH, "june"),
    LaneKey("shop", LaneKind.BATCH, "july"),
    LaneKey("club", LaneKind.LOOSE),
)


class Pacing:
    """One scheduler process's stores."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.bulk, self.store = BulkStore(database), PacingStore(database)
        self.settling = SettlingStore(database)

    async def add(self, lane: LaneKey, count: int, due_in: timedelta = timedelta()) -> list[UUID]:
        due_at = datetime.now(UTC) - timedelta(seconds=1) + due_in
        rows = [
            BulkRow(uuid4(), lane, n, due_at, None, b'{"s":1}', b'{"to":"a@example.org"}', None) for n in range(count)
        ]
        assert await self.bulk.add(merge_rows(rows)) == count
        return [row.id for row in rows]

    async def take(self, limit: int = 1000) -> list[UUID]:
        view = await self.store.look()
        shares = share_out(min(limit, view.free), view.claims)
        taken = await self.store.take(shares, view.stuck, LEASE, DAY, DAY) if shares else None
        return [mail.id for mail in taken[1]] if taken else []

    async def settle(self, ids: Sequence[UUID], state: BulkState = BulkState.SENT, attempt: int = 1) -> int:
        return await self.settling.settle([Result(key, state, attempt) for key in sorted(map(str, ids))])

    async def grow_old(self) -> None:
        """Two minutes go by since anything left."""
        await self.leave_earlier(timedelta(minutes=2))
        await self.database.fetch("UPDATE scheduler.bulk_lane SET handed_at = handed_at - interval '2 min'")

    async def leave_earlier(self, by: timedelta) -> None:
        """All mail has left so much earlier."""
        await self.database.fetch("UPDATE scheduler.bulk_mail SET handed_at = handed_at - $1::interval", by)
        await self.database.fetch("UPDATE scheduler.bulk_lane SET flying_since = flying_since - $1::interval", by)

    async def check(self) -> None:
        """What must be true at any time: counters are what the rows are, and the window what is queued."""
        rows = await self.database.fetch("SELECT lane, state FROM scheduler.bulk_mail")
        found = Counter((row["lane"], row["state"]) for row in rows)
        for number, lane in (await self.bulk.report_all(sorted({row["lane"] for row in rows}))).items():
            assert lane.counts == {state: found[number, state.value] for state in BulkState}
        window = (await self.store.look()).window
        assert window.in_flight == sum(row["state"] == "queued" for row in rows)


@pytest.fixture(scope="module")
def pacing_url(real_servers: RealServers) -> Iterator[str]:
    name = real_servers.create_database()
    yield real_servers.postgres().database_url(name)
    real_servers.drop_database(name)


@pytest.fixture
async def pacing(pacing_url: str) -> AsyncIterator[Pacing]:
    database = Database(pacing_url)
    yield Pacing(database)
    tables = "bulk_lane, scheduler.bulk_content, scheduler.bulk_mail, scheduler.bulk_group, scheduler.cancellation"
    await database.fetch(f"TRUNCATE scheduler.{tables}")
    await database.fetch("UPDATE scheduler.bulk_window SET size = 50, in_flight = 0, rate = 0, results = 0")
    await database.close()


async def test_two_processes_never_exceed_the_window_and_give_each_mail_to_one(pacing: Pacing, pacing_url: str) -> None:
    second = Database(pacing_url)
    others = Pacing(second)
    wanted = set(await pacing.add(JUNE, 300)) | set(await pacing.add(OTHERS, 100))
    seen: list[UUID] = []
    rng = random.Random(1)

    async def work(process: Pacing) -> None:
        flying: list[UUID] = []
        while len(seen) < len(wanted):
            taken = await process.take(rng.randint(1, 60))
            seen.extend(taken)
            flying += taken
            assert (await process.store.look()).window.in_flight <= LEAST
            rng.shuffle(flying)
            some, flying = flying[: len(flying) // 2 + 1], flying[len(flying) // 2 + 1 :]
            await process.settle(some)
        await process.settle(flying)

    try:
        await asyncio.gather(work(pacing), work(others))
    finally:
        await second.close()
    assert (len(seen), set(seen)) == (len(wanted), wanted)
    await pacing.check()
    assert (await pacing.store.look()).window.in_flight == 0


async def test_a_result_counts_once_in_whatever_order_results_come(pacing: Pacing) -> None:
    ids = await pacing.add(JUNE, 10)
    await pacing.take()
    assert await pacing.settle(ids[:6], BulkState.DEFERRED) == 6
    assert (await pacing.store.look()).window.in_flight == 4  # a deferred mail leaves the window
    assert await pacing.settle(ids[:6], BulkState.DEFERRED) == 0
    assert await pacing.settle(ids[:2], BulkState.UNKNOWN) == 2
    assert await pacing.settle(ids[:2], BulkState.DEFERRED) == 0
    assert await pacing.settle(ids[:3], BulkState.DEFERRED, attempt=2) == 3
    assert await pacing.settle(ids[:8]) == 8
    assert await pacing.settle([*ids[:8], uuid4()], BulkState.FAILED, attempt=9) == 0
    await pacing.check()
    lane = await pacing.bulk.report(JUNE)
    assert lane
    assert (lane.counts[BulkState.SENT], lane.open, lane.total) == (8, 2, 10)
    rows = await pacing.database.fetch("SELECT own IS NULL AS dropped FROM scheduler.bulk_mail")
    assert sum(row["dropped"] for row in rows) == 8


async def test_what_is_paused_or_not_due_does_not_leave(pacing: Pacing) -> None:
    await pacing.add(JUNE, 5)
    await pacing.add(JULY, 5, due_in=timedelta(hours=1))
    assert await pacing.bulk.pause(JUNE)
    assert await pacing.take() == []
    assert not await pacing.bulk.pause(OTHERS)
    assert await pacing.bulk.resume(JUNE)
    assert len(await pacing.take()) == 5


async def test_a_cancelled_lane_ends_and_every_mail_of_it_is_to_be_told(pacing: Pacing) -> None:
    ids = await pacing.add(JUNE, 12)
    [gone] = await pacing.take(1)
    assert await pacing.bulk.cancel(JUNE)
    assert await pacing.take() == []
    assert await pacing.settling.cancel_lanes(10) + await pacing.settling.cancel_lanes(10) == 11
    late = await pacing.add(JUNE, 1)
    assert await pacing.settling.cancel_lanes(10) == 1
    groups = await CANCELLATIONS.lease(pacing.database, 10, LEASE)
    told = [mail for group in groups for mail in await pacing.store.list_cancelled(group)]
    assert {mail.id for mail in told} == {*ids, *late} - {gone}
    await pacing.check()


async def test_a_cancellation_is_found_whether_it_comes_before_or_after(pacing: Pacing) -> None:
    async def wish(mail_id: UUID, account: str) -> None:
        await pacing.database.fetch(
            "INSERT INTO scheduler.cancellation VALUES ($1, $2, now() + interval '1 h')", account, mail_id
        )
        await pacing.bulk.cancel_mails([mail_id])

    first, foreign, queued = await pacing.add(JUNE, 3)
    await pacing.database.fetch("UPDATE scheduler.bulk_mail SET number = -1 WHERE id = $1", queued)
    assert await pacing.take(1) == [queued]
    for mail_id, account in ((first, "shop"), (foreign, "club"), (queued, "shop")):
        await wish(mail_id, account)
    early = uuid4()
    await wish(early, "shop")
    row = BulkRow(early, JUNE, 9, datetime.now(UTC), None, None, b"{}", None)
    assert [await pacing.bulk.add([row]) for _ in range(2)] == [1, 0]
    states = {mail_id: (await pacing.bulk.find(mail_id, "shop")) for mail_id in (first, foreign, queued, early)}
    assert [found and found.state.value for found in states.values()] == ["cancelled", "pending", "queued", "cancelled"]
    assert await pacing.bulk.find(first, "club") is None
    await pacing.check()


async def test_a_group_that_was_not_published_is_leased_again_with_what_has_no_result(pacing: Pacing) -> None:
    ids = await pacing.add(JUNE, 4)
    await pacing.take()
    assert await RELEASES.lease(pacing.database, 10, LEASE) == []
    await pacing.database.fetch("UPDATE scheduler.bulk_group SET lease_until = now() - interval '1 s'")
    await pacing.settle(ids[:1])
    [group] = await RELEASES.lease(pacing.database, 10, LEASE)
    mails = await pacing.store.list_queued(group)
    assert {mail.id for mail in mails} == set(ids[1:])
    assert all(mail.content and mail.expires_at > datetime.now(UTC) + timedelta(hours=23) for mail in mails)
    await pacing.store.finish(DueRow(group.id, uuid4(), {}))
    assert await pacing.database.fetch("SELECT FROM scheduler.bulk_group")
    await pacing.store.finish(group)
    assert not await pacing.database.fetch("SELECT FROM scheduler.bulk_group")


async def test_mail_that_is_stuck_takes_no_other_lanes_room(pacing: Pacing) -> None:
    await pacing.add(JUNE, LEAST + 10)
    assert len(await pacing.take()) == LEAST
    other = set(await pacing.add(OTHERS, 5))
    assert await pacing.take() == []
    await pacing.grow_old()
    [tried] = set(await pacing.take()) - other  # of the lane that is stuck one is tried
    assert await pacing.take() == []
    assert (await pacing.store.look()).stuck == LEAST
    await pacing.grow_old()
    await pacing.settle([tried])
    assert await pacing.settling.release_stale(timedelta(minutes=1)) == LEAST
    assert len(await pacing.take()) == 9  # it is heard of again, and all of it leaves
    await pacing.check()


async def test_a_result_that_was_lost_does_not_keep_what_comes_later(pacing: Pacing) -> None:
    await pacing.add(OTHERS, 1)
    await pacing.take()
    await pacing.grow_old()
    [later] = await pacing.add(OTHERS, 1)
    assert await pacing.take() == [later]
    await pacing.settle([later])
    assert await pacing.settling.release_stale(timedelta(minutes=1)) == 1
    assert (await pacing.store.look()).window.in_flight == 0
    await pacing.check()


async def test_where_the_mail_is_that_left_first_is_noted_as_results_come(pacing: Pacing) -> None:
    early = await pacing.add(JUNE, 2)
    await pacing.take()
    await pacing.leave_earlier(timedelta(minutes=20))
    await pacing.settle(early[:1])
    await pacing.add(JUNE, 1)
    assert len(await pacing.take()) == 1
    await pacing.leave_earlier(timedelta(minutes=5))

    async def note_oldest() -> int:
        await pacing.settling.note_oldest()
        [row] = await pacing.database.fetch("SELECT now() - flying_since AS ago FROM scheduler.bulk_lane")
        return int(row["ago"].total_seconds() // 60)

    assert await note_oldest() == 25
    await pacing.settle(early)
    assert await note_oldest() == 5


async def test_no_index_holds_what_changes_when_a_mail_is_sent(pacing: Pacing) -> None:
    rows = await pacing.database.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'bulk_mail'")
    named = {word for row in rows for word in re.findall(r"\w+", row["indexdef"].partition(" USING ")[2])}
    assert "shelf" in named
    assert not named & {"state", "own", "attempt", "ended_at"}


async def test_lanes_that_are_not_due_keep_none_that_is(pacing: Pacing) -> None:
    for number in range(60):
        await pacing.add(LaneKey("shop", LaneKind.BATCH, str(number)), 1, due_in=DAY)
    [due] = await pacing.add(JUNE, 1)
    assert await pacing.take() == [due]


async def test_mail_nothing_is_heard_of_leaves_the_window_and_ends_after_its_expiry(pacing: Pacing) -> None:
    ids = await pacing.add(JUNE, 3)
    await pacing.take()
    ago = timedelta(minutes=5)
    assert await pacing.settling.release_stale(ago) == 0
    await pacing.leave_earlier(timedelta(minutes=20))
    await pacing.settling.note_oldest()
    assert await pacing.settling.release_stale(ago) == 0  # nothing at all is heard: the relays are down, and it waits
    await pacing.settle(ids[:1])
    assert await pacing.settling.release_stale(ago) == 2
    assert await pacing.settling.give_up(DAY, 10) == 0
    await pacing.database.fetch("UPDATE scheduler.bulk_mail SET expires_at = now() - interval '2 d'")
    assert await pacing.settling.give_up(DAY, 10) == 2
    await pacing.check()


async def test_what_has_ended_is_deleted_when_it_has_been_kept_for_long_enough(pacing: Pacing) -> None:
    store = pacing.settling
    await pacing.settle(await pacing.add(JUNE, 3))
    await pacing.add(OTHERS, 2)
    for deleted in (store.delete_ended, store.delete_contents, store.delete_lanes):
        assert await deleted(DAY, 10) == 0
    await pacing.database.fetch(
        "UPDATE scheduler.bulk_mail SET handed_at = handed_at - interval '2 d', ended_at = ended_at - interval '2 d'"
    )
    await pacing.database.fetch("UPDATE scheduler.bulk_content SET used_at = now() - interval '2 d'")
    await pacing.database.fetch(
        "UPDATE scheduler.bulk_lane SET created_at = now() - interval '2 d', changed_at = now() - interval '2 d'"
    )
    assert [await each(DAY, 10) for each in (store.delete_ended, store.delete_contents, store.delete_lanes)] == [
        3,
        1,
        1,
    ]
    assert len(await pacing.take()) == 2


async def test_an_upload_that_was_given_up_leaves_nothing(pacing: Pacing) -> None:
    await pacing.bulk.open_lanes([JUNE], paused=True)
    await pacing.add(JUNE, 7)
    assert await pacing.take() == []
    assert [await pacing.bulk.discard(JUNE, 5) for _ in range(3)] == [5, 2, 0]
    lane = await pacing.bulk.report(JUNE)
    assert lane
    assert lane.total == 0
