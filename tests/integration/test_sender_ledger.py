"""The ledger on a real PostgreSQL: whatever a mail and a relay's words hold, a group is claimed and settled."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.sender.classify import Reply, Sent
from services.sender.intake import Intake
from services.sender.retries import RetryPolicy
from services.sender.store import SenderStore
from services.sender.work import Work
from shared.database import Database
from shared.events import EmailRequested

INTAKE = Intake("cluster", 1 << 20, timedelta(hours=1))
AT = datetime(2026, 1, 31, 9, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SenderStore]:
    database = Database(database_url)
    try:
        yield SenderStore(database)
    finally:
        await database.stop()


def make_work(**fields: Any) -> Work:
    mail = {"id": str(uuid4()), "from": "a@x.org", "to": ["b@y.org"], "subject": "s", "text": "t"}
    return INTAKE.begin(EmailRequested.model_validate(mail | fields), AT, None)


def send(work: Work, now: datetime, words: str) -> None:
    work.entry.apply({"b@y.org": Sent(Reply(250, words))}, now, RetryPolicy(()), relay="r", hold=False)


async def test_odd_characters_and_times_come_back_as_they_went(store: SenderStore) -> None:
    works = [
        make_work(),
        make_work(metadata={"odd": 'NUL \x00, quote ", back \\ and 🎈'}),
        make_work(expires_at="2026-01-31T15:00:00.123456+05:30"),
    ]
    found = await store.claim(works)
    assert all(found[work.id].plain for work in works)
    assert not any(each.fresh for each in (await store.claim(works)).values())
    for work, words in zip(works, ["2.0.0 ok", "a \x00 that nobody has cleaned", '"\\u0000" 🎈'], strict=True):
        send(work, found[work.id].now, words)
    assert await store.settle(works) == set()
    rows = await store.load([work.id for work in works])
    for work in works:
        kept, _ = rows[work.id]
        assert (kept.echo, kept.accepted_at, kept.expires_at) == (
            work.entry.echo,
            work.entry.accepted_at,
            work.entry.expires_at,
        )
        assert kept.results == work.entry.results


async def test_what_is_not_ours_is_told_and_hurts_nobody(store: SenderStore) -> None:
    ours, lost = make_work(), make_work()
    found = await store.claim([ours, lost])
    for work in (ours, lost):
        send(work, found[work.id].now, "2.0.0 ok")
    await store.release([lost])
    assert await store.settle([lost, ours]) == {lost.id}
    assert await store.settle([ours]) == {ours.id}, "the token is spent"
