"""`reconcile` finds what does not add up, and `rebuild` makes the read model again, on real servers."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from prometheus_client import REGISTRY
from pydantic import SecretStr

from deploy.local.settings import REPOSITORY
from services.gateway.gauges import Gauges
from services.gateway.proving import _create_replay, _rebuild, _reconcile
from services.gateway.rebuilding import Summary
from services.gateway.reconciling import Report
from services.gateway.replaying import ReplayUnavailable
from services.gateway.run_store import ReconciliationStore
from services.gateway.settings import ProvingSettings
from services.gateway.shadow_store import AnotherRebuild, ShadowStore
from services.gateway.store import FENCE, ProjectionStore
from services.gateway.worker import Projector
from shared.database import Database, DatabaseUnavailable
from tests.support.gateway import serve_gateway
from tests.support.listed import check_listed
from tests.support.servers import RealServers
from tests.support.services import _clean_environment
from tests.support.stack import Stack
from tests.support.states import JUNK, TELLERS, put, put_aborted, put_refused, sent, tell, tell_stories


@pytest.fixture
def running(real_servers: RealServers) -> Iterator[Stack]:
    """Topics and a database of the test's own, and a gateway worker."""
    with serve_gateway(real_servers, "worker") as (stack, _):
        yield stack


@pytest.fixture
async def database(running: Stack) -> AsyncIterator[Database]:
    database = Database(running.database_url)
    yield database
    await database.close()


def run(stack: Stack, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.gateway", *arguments],
        env={**_clean_environment(), **stack.env(), **env},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def settings_of(stack: Stack) -> ProvingSettings:
    return ProvingSettings(
        kafka_bootstrap_servers=stack.bootstrap_servers,
        topic_prefix=stack.topic_prefix,
        database_url=SecretStr(stack.database_url),
    )


async def reconcile(stack: Stack, since: datetime | None = None, pending_after_s: float = 600) -> Report:
    report, _ = await _reconcile(settings_of(stack), since, timedelta(seconds=pending_after_s), timedelta(seconds=15))
    return report


async def rebuild(stack: Stack) -> Summary:
    return await _rebuild(settings_of(stack), lambda _: None)


async def project_all(stack: Stack, database: Database) -> None:
    """Take everything the topics hold into a read model, as a worker that starts on an empty one."""
    replay = _create_replay(settings_of(stack))
    try:
        await replay.start()
        projector = Projector(database, kafka=stack.kafka, event_limit=1024 * 1024)
        async for records in replay.read():
            await projector.project(records)
    finally:
        await replay.stop()


async def dump(database: Database) -> list[Any]:
    """All that two equal read models have in common: everything but how often a row was written."""
    emails = await database.fetch("SELECT to_jsonb(e) - 'version' AS row FROM gateway.emails e ORDER BY id")
    lines = await database.fetch("SELECT to_jsonb(t) AS row FROM gateway.timeline t ORDER BY email_id, event_id")
    await check_listed(database)
    return [row["row"] for row in (*emails, *lines)]


def reasons(report: Report) -> dict[str, str]:
    return {fault.name: fault.reason for fault in report.named}


async def test_every_state_adds_up_and_what_does_not_is_named(running: Stack, database: Database) -> None:
    stories = tell_stories()
    ids = {story.state: story.id for story in reversed(stories)}
    await put(running, [record for story in stories for record in story.records])
    await put_refused(running)
    await put_aborted(running)
    done = run(running, "reconcile", "--since", "1h", "--pending-after", "10m", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    expected = {story.state: 2 if story.state == "sent" else 1 for story in stories}
    assert (told["accepted"], told["states"], told["read_model"]) == (10, expected, expected)
    assert (told["refused"], told["faults"], told["records"]) == (1, 0, 24)  # none of the aborted ones

    overdue = reasons(await reconcile(running, pending_after_s=0))
    assert list(overdue) == [ids["queued"]]  # the others are explained: by their time, or by the operator they wait for
    assert overdue[ids["queued"]].startswith("queued without an outcome")

    found = {ids[state] for state in ("sent", "failed", "expired", "partially_sent")}
    version = await database.fetch("SELECT version FROM gateway.emails WHERE id = $1", UUID(ids["failed"]))
    before = await dump(database)
    await database.fetch("DELETE FROM gateway.emails WHERE id = $1", UUID(ids["sent"]))
    await database.fetch("UPDATE gateway.emails SET status = 'sent' WHERE id = $1", UUID(ids["failed"]))
    await database.fetch("DELETE FROM gateway.timeline WHERE email_id = $1", UUID(ids["expired"]))
    await database.fetch("UPDATE gateway.emails SET recipients = '[{}]' WHERE id = $1", UUID(ids["partially_sent"]))
    done = run(running, "reconcile", "--pending-after", "10m", "--patience", "1s")
    assert done.returncode == 1, done.stdout + done.stderr
    named = {line.split()[1].rstrip(":"): line for line in done.stdout.splitlines() if line.startswith("FAULT")}
    assert named.keys() == found
    assert "no row" in named[ids["sent"]]
    assert "by the records it is failed, in the read model sent" in named[ids["failed"]]
    assert "lacks 2 of 2 events" in named[ids["expired"]]
    assert "cannot be read" in named[ids["partially_sent"]]

    await put(running, JUNK)
    changes = (await rebuild(running)).changes
    assert (changes.replaced, changes.added, changes.removed) == (2, 1, 0)
    after = await dump(database)
    assert [row for row in after if row in before] == before  # and one more line: of the cancellation in the junk
    assert len(after) == len(before) + 1
    newer = await database.fetch("SELECT version FROM gateway.emails WHERE id = $1", UUID(ids["failed"]))
    assert newer[0]["version"] > version[0]["version"]
    report = await reconcile(running)
    assert report.unanswered == 2  # the junk requests; nobody is there to answer
    assert report.faults == 0
    assert len(reasons(await reconcile(running, pending_after_s=0))) == 3


async def test_a_request_before_the_time_asked_for_is_not_missed(stack: Stack) -> None:
    database = Database(stack.database_url)
    earlier, later = tell("sent"), tell("sent")
    await put(stack, earlier.records[:1])
    await asyncio.sleep(0.1)
    since = datetime.now(UTC)
    await put(stack, [*earlier.records[1:], *later.records])
    await project_all(stack, database)
    report = await reconcile(stack, since)
    assert (report.accepted, report.earlier, report.faults) == (1, 1, 0)
    await database.fetch("DELETE FROM gateway.emails WHERE id = $1", UUID(earlier.id))
    report, _ = await _reconcile(settings_of(stack), since, timedelta(seconds=30), timedelta(0))
    assert reasons(report).keys() == {earlier.id}
    await database.close()


async def test_a_rebuild_under_load_gives_the_live_read_model(
    real_servers: RealServers, running: Stack, database: Database
) -> None:
    stories = tell_stories()
    await put(running, [record for story in stories for record in story.records])
    enough = asyncio.Event()
    publishing = asyncio.create_task(publish_load(running, enough))
    await wait_for_mails(database, 100)
    await database.fetch("DELETE FROM gateway.emails WHERE status = 'sent' AND random() < 0.3")
    await database.fetch("DELETE FROM gateway.timeline WHERE random() < 0.1")
    await database.fetch("UPDATE gateway.emails SET subject = 'garbled', attempts = 7 WHERE random() < 0.3")
    await database.fetch(
        'UPDATE gateway.timeline SET data = \'{}\', at = now(), "offset" = "offset" + 1 WHERE random() < 0.1'
    )
    await rebuild(running)
    enough.set()
    await rebuild(running)
    rounds = await publishing
    report = await reconcile(running)
    assert (report.accepted, report.faults) == (10 + rounds * 10, 0)
    name = real_servers.create_database()
    fresh = Database(real_servers.postgres().database_url(name))
    try:
        await project_all(running, fresh)
        assert await dump(database) == await dump(fresh)
    finally:
        await fresh.close()
        real_servers.drop_database(name)
    assert await database.fetch("SELECT 1 FROM pg_tables WHERE tablename LIKE 'shadow%'") == []


async def publish_load(stack: Stack, enough: asyncio.Event) -> int:
    """Publish mails in every state, a round every 40 ms until it is enough; answers the number of rounds."""
    rounds = 0
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers)
    await producer.start()
    try:
        while not enough.is_set():
            rounds += 1
            for state in TELLERS:
                for topic, key, value in tell(state).records:
                    headers = None if topic == "requested" else [("ce_type", f"email.{topic}".encode())]
                    name = getattr(stack.topics, topic)
                    await producer.send(name, value, key=key.encode() if key else None, headers=headers)
            await asyncio.sleep(0.04)
        await producer.flush()
    finally:
        await producer.stop()
    return rounds


async def wait_for_mails(database: Database, count: int) -> None:
    async with asyncio.timeout(30):
        while (await database.fetch("SELECT count(*) AS n FROM gateway.emails"))[0]["n"] < count:
            await asyncio.sleep(0.02)


async def test_a_rebuild_keeps_what_is_older_than_the_topics_and_removes_what_they_do_not_know(stack: Stack) -> None:
    database = Database(stack.database_url)
    old, straddling, new, phantom = tell("failed"), tell("deferred"), tell("sent"), tell("sent")
    await put(stack, [*old.records, *straddling.records])
    await project_all(stack, database)
    await forget_everything(stack)
    await put(stack, [sent(straddling.id, "a@x.org", "b@x.org", attempt=2), *new.records, *phantom.records])
    await project_all(stack, database)
    await database.fetch("DELETE FROM gateway.locator")
    await database.fetch("UPDATE gateway.emails SET id = $2 WHERE id = $1", UUID(phantom.id), UUID(int=7))
    await database.fetch("UPDATE gateway.timeline SET email_id = $2 WHERE email_id = $1", UUID(phantom.id), UUID(int=7))
    before = await dump(database)
    summary = await rebuild(stack)
    assert (summary.merged, summary.changes.added, summary.changes.removed) == (1, 1, 1)
    after = await dump(database)
    for story in (old, straddling, new):
        assert [row for row in after if story.id in str(row)] == [row for row in before if story.id in str(row)]
    assert [row for row in after if str(UUID(int=7)) in str(row)] == []
    rows = await database.fetch("SELECT status, attempts FROM gateway.emails WHERE id = $1", UUID(straddling.id))
    assert [tuple(row) for row in rows] == [("sent", 2)]
    assert (await reconcile(stack)).faults == 0
    await database.close()


async def forget_everything(stack: Stack) -> None:
    """As retention does with old segments."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    try:
        described = await admin.describe_topics([stack.topics.requested, stack.topics.sent, stack.topics.failed])
        places = [TopicPartition(each["topic"], part["partition"]) for each in described for part in each["partitions"]]
        await admin.delete_records({place: RecordsToDelete(-1) for place in places})
    finally:
        await admin.close()


async def test_one_rebuild_at_a_time_and_one_that_dies_leaves_everything_as_it_was(stack: Stack) -> None:
    database = Database(stack.database_url)
    await put(stack, tell("sent").records)
    await project_all(stack, database)
    before = await dump(database)
    dead, holder = ShadowStore(database), ShadowStore(database)
    await dead.create()  # as a rebuild that was killed leaves it
    async with holder.alone():
        with pytest.raises(AnotherRebuild):
            await rebuild(stack)
    assert await dump(database) == before
    done = run(stack, "rebuild")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 mails, 0 mended, 0 added, 0 removed" in done.stdout
    assert await database.fetch("SELECT 1 FROM pg_tables WHERE tablename LIKE 'shadow%'") == []
    assert await dump(database) == before
    await database.close()


async def test_workers_write_side_by_side_and_wait_while_a_rebuild_swaps(database_url: str) -> None:
    database = Database(database_url)
    store = ProjectionStore(database)
    async with store.fenced(), store.fenced():
        pass
    async with database.transaction() as connection:
        await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({FENCE})")
        waiting = asyncio.create_task(_enter(store))
        await asyncio.sleep(0.2)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 5)
    await database.close()


async def test_a_worker_that_loses_its_fence_repeats_the_batch(database_url: str) -> None:
    database, other = Database(database_url), Database(database_url)
    with pytest.raises(DatabaseUnavailable):
        async with ProjectionStore(database).fenced():
            await other.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    await _enter(ProjectionStore(database))
    await database.close()
    await other.close()


async def _enter(store: ProjectionStore) -> None:
    async with store.fenced():
        pass


async def test_the_worker_shows_the_last_reconcile_and_the_oldest_mail_that_waits(stack: Stack) -> None:
    database = Database(stack.database_url)
    await put(stack, [*tell("queued").records, *tell("scheduled").records, *tell("sent").records])
    await project_all(stack, database)
    age = "UPDATE gateway.emails SET created_at = created_at - interval"
    await database.fetch(f"{age} '1 hour' WHERE status = 'queued'")
    await database.fetch(f"{age} '9 hour' WHERE status = 'sent'")
    await reconcile(stack)
    await Gauges(ReconciliationStore(database)).refresh()
    await database.close()
    assert 3600 <= (REGISTRY.get_sample_value("milena_oldest_waiting_seconds") or 0) < 3700
    assert REGISTRY.get_sample_value("milena_reconciled_mails", {"state": "scheduled"}) == 1
    assert REGISTRY.get_sample_value("milena_reconcile_faults") == 0
    assert 0 <= (REGISTRY.get_sample_value("milena_reconcile_age_seconds") or -1) < 60


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"MILENA_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "kafka"),
        ({"MILENA_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, "postgresql"),
    ],
)
def test_what_cannot_be_run_says_why_and_exits_with_2(
    bootstrap_servers: str, database_url: str, env: dict[str, str], said: str
) -> None:
    done = run(Stack(bootstrap_servers, "nowhere.", database_url), "reconcile", **env)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_topics_that_are_not_there_are_named_and_not_made(bootstrap_servers: str, database_url: str) -> None:
    for _ in range(2):
        with pytest.raises(ReplayUnavailable, match=r"topics missing: nowhere.email.requested, nowhere"):
            await reconcile(Stack(bootstrap_servers, "nowhere.", database_url))
