"""What operators have decided goes when it is old, suppressions when they have ended; unfinished mail stays."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.sender.store import Suppression, SuppressionStore, UnknownStore
from shared.database import Database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


async def add_decision(database: Database, age: timedelta, *, waiting: bool) -> UUID:
    email_id = uuid4()
    await database.fetch(
        """
        INSERT INTO sender.decision (id, attempt, intent, note, decided_by, decided_at)
        VALUES ($1, 1, 'sent', '', 'x', now() - $2::interval)
        """,
        email_id,
        age,
    )
    if waiting:
        await database.fetch(
            "INSERT INTO sender.due (id, kind, due_at, event, accepted_at) VALUES ($1, 'held', now(), 'x', now())",
            email_id,
        )
    return email_id


async def test_old_decisions_go_but_not_those_on_mail_that_waits(database: Database) -> None:
    kept = timedelta(days=30)
    old = [await add_decision(database, timedelta(days=31), waiting=False) for _ in range(3)]
    waiting = await add_decision(database, timedelta(days=31), waiting=True)
    fresh = await add_decision(database, timedelta(days=29), waiting=False)
    store = UnknownStore(database)
    assert await store.delete_decisions(kept, 2) == 2
    assert await store.delete_decisions(kept, 2) == 1
    left = {row["id"] for row in await database.fetch("SELECT id FROM sender.decision")}
    assert left == {waiting, fresh}
    assert not left & set(old)


async def test_suppressions_that_have_ended_go_and_are_not_listed_before(database: Database) -> None:
    store, now = SuppressionStore(database), datetime.now(UTC)
    ends = {"over@x.org": now - timedelta(seconds=1), "later@x.org": now + timedelta(days=1), "ever@x.org": None}
    await store.add([Suppression("shop", address, "test", until) for address, until in ends.items()])
    assert [each.address for each in await store.list_some("shop", None, None, 10)] == ["ever@x.org", "later@x.org"]
    assert await store.delete_ended(10) == 1
    (row,) = await database.fetch("SELECT count(*) AS left FROM sender.suppression")
    assert row["left"] == 2


async def test_a_bounce_does_not_shorten_what_an_operator_has_written(database: Database) -> None:
    store = SuppressionStore(database)
    over = datetime.now(UTC) - timedelta(seconds=1)
    await store.add([Suppression("shop", "a@x.org", "manual", None), Suppression("shop", "b@x.org", "manual", over)])
    await store.note({("shop", "a@x.org"), ("shop", "b@x.org")}, "hard_bounce", timedelta(days=1))
    kept = {each.address: each.reason for each in await store.list_some("shop", None, None, 10)}
    assert kept == {"a@x.org": "manual", "b@x.org": "hard_bounce"}
