"""What has been kept for long enough is deleted, and nothing else; on real PostgreSQL, with rows of old age."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.callback import settings as callback_settings
from services.callback import worker as callback_worker
from services.callback.store import CallbackStore
from services.gateway.ageing import create_cleaner
from services.gateway.store import PartitionStore, ReadModel
from services.scheduler import settings as scheduler_settings
from services.scheduler import worker as scheduler_worker
from services.scheduler.waiting.store import SchedulerStore
from services.sender.store import SenderStore
from shared.cleaning import Chore, Cleaner
from shared.database import Database, text
from shared.metrics import ROWS_DELETED
from shared.process import Part
from tests.support.listed import check_labels, read_tallies
from tests.support.stack import MASTER_SECRET


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


class Recorder(Database):
    """A database that also says how it would carry out each statement."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.plans: list[str] = []

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        plan = await super().fetch(f"EXPLAIN {sql}", *args)
        self.plans.append("\n".join(line for (line,) in plan))
        return await super().fetch(sql, *args)


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


async def clean(parts: Sequence[Part]) -> None:
    """What the worker built of these parts would delete in one turn."""
    (cleaner,) = [part for part in parts if isinstance(part, Cleaner)]
    (database,) = [part for part in parts if isinstance(part, Database)]
    await cleaner.clean()
    await database.stop()


def count_deleted(table: str) -> float:
    return float(ROWS_DELETED.labels(table=table)._value.get())


async def list_ids(database: Database, table: str) -> set[UUID]:
    return {UUID(int=row["id"].int) for row in await database.fetch(f"SELECT id FROM {table}")}


async def test_the_scheduler_forgets_what_ended_and_never_what_waits(database: Database, database_url: str) -> None:
    old, young = days_ago(31), days_ago(29)
    rows: dict[str, tuple[str, datetime | None, datetime | None, datetime | None]] = {
        "released long ago": ("released", old, None, None),
        "released lately": ("released", young, None, None),
        "cancelled and told long ago": ("cancelled", None, old, old),
        "told lately": ("cancelled", None, old, young),
        "untold": ("cancelled", None, old, None),
        "waiting": ("pending", None, None, None),
        "releasing": ("releasing", None, None, None),
    }
    ids = {name: uuid4() for name in rows}
    for name, (state, released, cancelled, announced) in rows.items():
        await database.fetch(
            "INSERT INTO scheduler.delayed (id, account, state, due_at, created_at, released_at, cancelled_at,"
            " announced_at) VALUES ($1, 'a', $2, now(), $3, $4, $5, $6)",
            ids[name],
            state,
            days_ago(300),
            released,
            cancelled,
            announced,
        )
    await database.fetch(
        "INSERT INTO scheduler.cancellation SELECT 'a', gen_random_uuid(), now() + make_interval(hours => n)"
        " FROM unnest(ARRAY[-25, -1, 1]) AS t(n)"
    )
    before = count_deleted("scheduler.delayed")
    settings = scheduler_settings.WorkerSettings.model_validate({"database_url": database_url})
    await clean(scheduler_worker.create_worker(settings))
    gone = {"released long ago", "cancelled and told long ago"}
    assert await list_ids(database, "scheduler.delayed") == {ids[name] for name in rows if name not in gone}
    assert count_deleted("scheduler.delayed") == before + 2
    assert len(await database.fetch("SELECT 1 FROM scheduler.cancellation")) == 1


async def test_the_ledger_forgets_what_settled_long_ago_unless_a_row_leads_to_it(database: Database) -> None:
    store = SenderStore(database)
    old, parked, young, held = (uuid4() for _ in range(4))
    for email_id, state, days in (
        (old, "settled", 31),
        (parked, "settled", 31),
        (young, "settled", 29),
        (held, "held", 31),
    ):
        await database.fetch(
            """
            INSERT INTO sender.ledger (id, account, digest, message_id, echo, recipient_count, accepted_at, expires_at,
                                       state, created_at, updated_at)
            SELECT $1, 'a', 'd', 'm', '{}', 1, t, t, $2, t, t FROM (SELECT now() - make_interval(days => $3) AS t) AS s
            """,
            email_id,
            state,
            days,
        )
    await database.fetch(
        "INSERT INTO sender.due (id, kind, due_at, event, accepted_at) VALUES ($1, 'parked', now(), '', now())", parked
    )
    assert await store.delete_settled(timedelta(days=30), 100) == 1
    assert await list_ids(database, "sender.ledger") == {parked, young, held}


async def test_callback_forgets_finished_deliveries_with_their_attempts(database: Database, database_url: str) -> None:
    rows: dict[str, tuple[str, datetime | None]] = {
        "delivered long ago": ("delivered", days_ago(4)),
        "failed long ago": ("failed", days_ago(4)),
        "delivered lately": ("delivered", days_ago(2)),
        "pending": ("pending", None),
    }
    ids = {name: uuid4() for name in rows}
    for name, (state, finished) in rows.items():
        await insert_delivery(database, ids[name], state, finished)
    settings = callback_settings.WorkerSettings.model_validate(
        {"database_url": database_url, "master_secret": MASTER_SECRET, "delivery_retention_days": 3}
    )
    await clean(callback_worker.create_worker(settings))
    kept = {ids["delivered lately"], ids["pending"]}
    assert await list_ids(database, "callback.delivery") == kept
    assert {UUID(int=row["delivery_id"].int) for row in await database.fetch("SELECT * FROM callback.attempt")} == kept


async def insert_delivery(database: Database, delivery_id: UUID, state: str, finished: datetime | None) -> None:
    await database.fetch(
        "INSERT INTO callback.delivery (id, account, email_id, event_id, type, url, body, state, created_at,"
        " finished_at) VALUES ($1, 'a', $1, $1, 't', 'u', '', $2, $3, $4)",
        delivery_id,
        state,
        days_ago(300),
        finished,
    )
    await database.fetch("INSERT INTO callback.attempt VALUES ($1, 1, now(), 5)", delivery_id)


class TestReadModel:
    """Kept for 90 days after the last thing that happened to a mail."""

    async def test_days_are_dropped_and_mails_still_in_use_move(self, database: Database) -> None:
        day, today = days_ago(120).date(), datetime.now(UTC).date()
        for name in ("emails", "timeline", "labels"):
            await PartitionStore(database).create_partition(name, day, day + timedelta(days=1))
        ended, tried, held = uuid4(), uuid4(), uuid4()
        await insert_mail(database, ended, day, updated_at=days_ago(120))
        await insert_mail(database, tried, day, updated_at=days_ago(3))
        await insert_mail(database, held, day, updated_at=days_ago(120), held=True, complete=False)
        await create_cleaner(database, timedelta(days=90)).clean()
        rows = await database.fetch("SELECT id, bucket, tableoid::regclass::text AS part FROM gateway.emails")
        assert {UUID(int=row["id"].int) for row in rows} == {tried, held}
        assert {(row["bucket"], row["part"]) for row in rows} == {(today, f"gateway.emails_{today:%Y%m%d}")}
        await check_labels(database)
        reader = ReadModel(database)
        assert await reader.find_email(ended) is None
        for email_id in (tried, held):
            row = await reader.find_email(email_id)
            assert row
            assert len(await reader.list_events(row["bucket"], email_id)) == 1
        old = f"SELECT 1 FROM pg_tables WHERE tablename LIKE '%\\_{day:%Y%m%d}'"
        assert await database.fetch(old) == []
        assert {UUID(int=row["id"].int) for row in await database.fetch("SELECT id FROM gateway.locator")} == {
            tried,
            held,
        }

    async def test_young_days_stay_whole(self, database: Database) -> None:
        day = days_ago(89).date()
        for name in ("emails", "timeline", "labels"):
            await PartitionStore(database).create_partition(name, day, day + timedelta(days=1))
        email_id = uuid4()
        await insert_mail(database, email_id, day, updated_at=days_ago(89))
        await create_cleaner(database, timedelta(days=90)).clean()
        (row,) = await database.fetch("SELECT bucket FROM gateway.emails")
        assert row["bucket"] == day

    async def test_what_lies_in_no_days_partition_goes_row_by_row(self, database: Database) -> None:
        day = days_ago(400).date()
        ended, held, orphan = uuid4(), uuid4(), uuid4()
        await insert_mail(database, ended, day, updated_at=days_ago(400))
        await insert_mail(database, held, day, updated_at=days_ago(400), held=True, complete=False)
        await insert_line(database, orphan, day)
        await create_cleaner(database, timedelta(days=90)).clean()
        assert await list_ids(database, "gateway.emails") == {held}
        assert [UUID(int=row["email_id"].int) for row in await database.fetch("SELECT * FROM gateway.timeline")] == [
            held
        ]
        assert await list_ids(database, "gateway.locator") == {held}
        await check_labels(database)

    async def test_counts_are_forgotten_by_their_age(self, database: Database) -> None:
        for days in (1, 8, 100):
            await insert_mail(database, uuid4(), days_ago(days).date(), updated_at=days_ago(days))
        await create_cleaner(database, timedelta(days=90)).clean()
        told = Counter((resolution, tag) for _, tag, resolution, *_ in await read_tallies(database))
        assert told == {("minute", ""): 1, ("minute", "t"): 1, ("hour", ""): 2, ("hour", "t"): 2}

    async def test_a_day_that_cannot_be_locked_is_dropped_another_time(self, database: Database) -> None:
        day = days_ago(120).date()
        for name in ("emails", "timeline", "labels"):
            await PartitionStore(database).create_partition(name, day, day + timedelta(days=1))
        await insert_mail(database, uuid4(), day, updated_at=days_ago(120))
        cleaner = create_cleaner(database, timedelta(days=90))
        async with database.transaction() as reader:
            await reader.execute(text("SELECT count(*) FROM gateway.emails"))
            await cleaner.clean()
        assert len(await database.fetch("SELECT 1 FROM gateway.emails")) == 1
        await cleaner.clean()
        assert await database.fetch("SELECT 1 FROM gateway.emails") == []


async def insert_mail(
    database: Database, email_id: UUID, day: date, *, updated_at: datetime, held: bool = False, complete: bool = True
) -> None:
    await database.fetch(
        "INSERT INTO gateway.emails (bucket, id, version, account, status, complete, attempts, recipients, addressees,"
        " tags, held, released, refused, completed, created_at, updated_at)"
        " VALUES ($1, $2, 1, 'a', 'sent', $3, 1, '[]', '{\"all\": [\"a@X.org\"]}', '{t}', $4, false, false, $3, $5,"
        " $5)",
        day,
        email_id,
        complete,
        held,
        updated_at,
    )
    await database.fetch("INSERT INTO gateway.locator VALUES ($1, $2)", email_id, day)
    await insert_line(database, email_id, day)


async def insert_line(database: Database, email_id: UUID, day: date) -> None:
    await database.fetch(
        "INSERT INTO gateway.timeline VALUES ($1, $2, $2, 'email.sent', 'a', now(), 't', 0, 0, '{}')", day, email_id
    )


async def test_nothing_is_scanned_however_much_there_is(database_url: str) -> None:
    recorder = Recorder(database_url)
    try:
        await fill(recorder)
        recorder.plans.clear()
        settings = scheduler_settings.WorkerSettings.model_validate({"database_url": database_url})
        secret = {"database_url": database_url, "master_secret": MASTER_SECRET}
        store = SchedulerStore(recorder)
        await store.delete_ended(timedelta(days=settings.delayed_retention_days), 50)
        await store.delete_cancellations(50)
        kept = timedelta(days=callback_settings.WorkerSettings.model_validate(secret).delivery_retention_days)
        await CallbackStore(recorder).delete_finished(kept, 50)
        await create_cleaner(recorder, timedelta(days=90)).clean()
        sender = SenderStore(recorder)
        assert await sender.delete_settled(timedelta(days=30), 50) == 50
        assert await sender.delete_cancellations(50) == 50
        assert len(recorder.plans) >= 9
        for plan in recorder.plans:
            scanned = [line for line in plan.splitlines() if "Seq Scan on" in line and "pg_" not in line]
            assert scanned == [], plan
    finally:
        await recorder.close()


async def fill(database: Database) -> None:
    """Many rows, few of them old."""
    age = "now() - make_interval(days => CASE WHEN n % 100 = 0 THEN 200 ELSE 1 END)"
    series = "FROM generate_series(1, 20000) AS t(n)"
    uuid = "gen_random_uuid()"
    for statement in (
        f"INSERT INTO scheduler.delayed (id, account, state, due_at, released_at)"
        f" SELECT {uuid}, 'a', 'released', now(), {age} {series}",
        f"INSERT INTO scheduler.cancellation SELECT 'a', {uuid}, {age} + interval '2 days' {series}",
        f"INSERT INTO callback.delivery (id, account, email_id, event_id, type, url, body, state, finished_at)"
        f" SELECT {uuid}, 'a', {uuid}, {uuid}, 't', 'u', '', 'delivered', {age} {series}",
        f"INSERT INTO gateway.emails_default (bucket, id, version, account, status, complete, attempts, recipients,"
        f" held, released, refused, completed, created_at, updated_at)"
        f" SELECT ({age})::date, {uuid}, 1, 'a', 'sent', true, 1, '[]', false, true, false, true, {age}, {age}"
        f" {series}",
        f"INSERT INTO gateway.timeline_default"
        f" SELECT ({age})::date, {uuid}, {uuid}, 'email.sent', 'a', {age}, 't', 0, n, '{{}}' {series}",
        f"INSERT INTO gateway.locator SELECT {uuid}, ({age})::date {series}",
        f"INSERT INTO gateway.labels_default SELECT {age}, {uuid}, ({age})::date, 'a', 'tag', 't' {series}",
        f"INSERT INTO gateway.tallies SELECT 'a', n::text, CASE WHEN n % 3 = 0 THEN 'hour' ELSE 'minute' END, {age},"
        f" 0, 0, 0, 1, 0, 0, 0, 0, 0 {series}",
        f"INSERT INTO gateway.idempotency_keys (account, key, fingerprint, id, requested_at, token, lease_until,"
        f" created_at)"
        f" SELECT 'a', n::text, '', {uuid}, {age}, {uuid}, {age}, {age} {series}",
        f"INSERT INTO gateway.retries SELECT {uuid}, {uuid}, {uuid}, 1, 'a', {age} {series}",
        f"INSERT INTO sender.ledger (id, account, digest, message_id, echo, recipient_count, accepted_at, expires_at,"
        f" state, created_at, updated_at)"
        f" SELECT {uuid}, 'a', 'd', 'm', '{{}}', 1, {age}, {age}, 'settled', {age}, {age} {series}",
        f"INSERT INTO sender.due (id, kind, due_at, event, accepted_at)"
        f" SELECT {uuid}, 'parked', now(), '', now() {series}",
        f"INSERT INTO sender.cancellation SELECT {uuid}, 'a', {age} + interval '2 days' {series}",
    ):
        await Database.fetch(database, statement)
    async with database.transaction() as connection:
        await connection.exec_driver_sql("ANALYZE")


async def test_rows_go_in_batches_until_none_is_left_and_only_one_process_is_at_it(database: Database) -> None:
    left, batches, inside = 35, [], asyncio.Event()
    go_on = asyncio.Event()

    async def delete(limit: int) -> int:
        nonlocal left
        inside.set()
        await go_on.wait()
        taken = min(limit, left)
        left -= taken
        batches.append(taken)
        return taken

    first = Cleaner("test", database, [Chore("t.one", delete)], batch=10)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(first.clean())
        await inside.wait()
        other = Cleaner("test", database, [Chore("t.one", delete)], batch=10)
        await other.clean()
        assert batches == [], "the other one has skipped its turn"
        go_on.set()
    assert batches == [10, 10, 10, 5]
    assert left == 0


async def test_it_begins_by_itself_and_again(database: Database) -> None:
    turns: list[int] = []

    async def delete(limit: int) -> int:
        turns.append(limit)
        if len(turns) == 1:
            raise RuntimeError("a bug in one turn")
        return 0

    soon = timedelta(milliseconds=30)
    cleaner = Cleaner("test", database, [Chore("t.one", delete)], every=soon, first_after=soon)
    await cleaner.start()
    async with asyncio.timeout(5):
        while len(turns) < 3:
            await asyncio.sleep(0.01)
    await cleaner.stop()
