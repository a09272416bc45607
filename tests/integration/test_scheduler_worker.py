"""The scheduler's worker as a process, on real Kafka and PostgreSQL: delayed, bulk, cancelled and unreadable mail."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
import orjson
import pytest

from deploy.local.ports import find_free_port
from services.scheduler.api import create_api
from services.scheduler.settings import ApiSettings
from services.scheduler.waiting.view_store import WaitingStore
from shared.database import Database
from shared.events import derive_bulk_entry_id
from tests.support.gateway import mint
from tests.support.outage import DatabaseProxy
from tests.support.races import count_cancelled, race
from tests.support.records import Seen, TopicReader, publish
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.stack import Stack

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CANCELLATION = {"ce_type": "email.cancellation_requested"}


@pytest.fixture
async def reader(stack: Stack) -> AsyncIterator[TopicReader]:
    topics = stack.topics
    async with TopicReader(stack.bootstrap_servers, topics.requested, topics.failed) as reader:
        yield reader


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[Database]:
    database = Database(stack.database_url)
    yield database
    await database.close()


async def start_worker(services: ServiceRunner, **env: str) -> ServiceProcess:
    worker = services.start("services.scheduler", "worker", env=env)
    await worker.wait_ready()
    return worker


def build_mail(send_in_s: float | None = None, **fields: Any) -> dict[str, Any]:
    mail: dict[str, Any] = {"from": "a@x.org", "to": ["b@y.org"], "subject": "s", "text": "t"}
    if send_in_s is not None:
        mail["send_at"] = (datetime.now(UTC) + timedelta(seconds=send_in_s)).isoformat()
    return mail | fields


def is_released(record: Seen) -> bool:
    return record.topic.endswith("requested") and record.headers.get("ce_source") == "/milena/scheduler"


def is_request(record: Seen) -> bool:
    return record.headers.get("ce_type") == "email.requested"


def is_failed(record: Seen) -> bool:
    return record.topic.endswith("failed")


async def find_state(database: Database, mail_id: UUID, table: str = "delayed") -> str | None:
    rows = await database.fetch(f"SELECT state FROM scheduler.{table} WHERE id = $1", mail_id)
    return rows[0]["state"] if rows else None


async def wait_for_state(database: Database, mail_id: UUID, state: str, table: str = "delayed") -> None:
    for _ in range(500):
        if await find_state(database, mail_id, table) == state:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"the row never was {state}, but {await find_state(database, mail_id, table)}")


async def test_a_delayed_mail_leaves_once_at_its_time(
    stack: Stack, services: ServiceRunner, reader: TopicReader, database: Database
) -> None:
    await start_worker(services)
    mail_id = uuid4()
    mail = build_mail(3, id=str(mail_id), metadata={"k": "v"})
    due = datetime.fromisoformat(mail["send_at"]).timestamp()
    headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
    await publish(stack.bootstrap_servers, stack.topics.requested, mail, mail, mail, headers=headers)
    (released,) = await reader.wait_for(is_released)
    assert -0.05 < released.seen_at - due < 0.7
    assert released.key == released.data["id"] == released.headers["ce_id"] == str(mail_id)
    assert released.headers["ce_type"] == "email.requested"
    assert released.headers["traceparent"].split("-")[1] == TRACE_ID
    assert "send_at" not in released.data
    assert released.data["metadata"] == {"k": "v"}
    assert datetime.fromisoformat(released.data["expires_at"]).timestamp() == pytest.approx(due + 72 * 3600)
    await wait_for_state(database, mail_id, "released")
    await asyncio.sleep(0.5)
    assert len([record for record in reader.seen if is_released(record)]) == 1
    assert await database.fetch("SELECT 1 FROM scheduler.delayed WHERE event IS NOT NULL") == []


async def test_bulk_mail_without_a_time_leaves_at_once_and_everything_else_is_left_alone(
    stack: Stack, services: ServiceRunner, reader: TopicReader, database: Database
) -> None:
    plain, bulk = uuid4(), uuid4()
    await publish(
        stack.bootstrap_servers,
        stack.topics.requested,
        build_mail(id=str(plain)),
        b"not json",
        {"bulk_id": str(uuid4()), "mails": []},
        build_mail(id=str(bulk), priority="bulk"),
    )
    await start_worker(services)
    (released,) = await reader.wait_for(is_released)
    assert released.data["id"] == str(bulk)
    assert "priority" not in released.data
    assert [row["id"] for row in await database.fetch("SELECT id FROM scheduler.bulk_mail")] == [bulk]
    assert await database.fetch("SELECT FROM scheduler.delayed") == []
    assert not any(is_failed(record) for record in reader.seen)


async def test_a_bulk_events_mails_wait_for_their_time_and_one_that_cannot_be_read_is_answered(
    stack: Stack, services: ServiceRunner, reader: TopicReader
) -> None:
    bulk_id = str(uuid4())
    content = {"from": "shop@example.com", "subject": "Hello {{ name }}", "text": "t"}
    mails = [{"to": f"user{number}@example.org", "variables": {"name": "x"}} for number in range(3)]
    await publish(
        stack.bootstrap_servers,
        stack.topics.requested,
        {**content, "bulk_id": bulk_id, "mails": mails, "priority": "bulk", "send_at": build_mail(1)["send_at"]},
        {**content, "bulk_id": str(uuid4()), "mails": [*mails, {"to": "nobody"}], "priority": "bulk"},
        {"id": bulk_id, "cancel": True},  # the id of a mail, of which the bulk event is none
    )
    await start_worker(services)
    (failed,) = await reader.wait_for(is_failed)
    assert failed.data["errors"][0]["pointer"] == "/mails/3/to"
    assert "id" not in failed.data
    (released,) = await reader.wait_for(lambda record: record.headers.get("ce_type") == "email.bulk_requested")
    assert released.key == released.headers["ce_id"] == released.data["bulk_id"]
    ids = [str(derive_bulk_entry_id(UUID(bulk_id), number)) for number in range(3)]
    assert released.data["mails"] == [{"id": ids[number], **mails[number]} for number in range(3)]
    assert not {"priority", "send_at"} & set(released.data)
    assert "expires_at" in released.data


async def test_an_invalid_delayed_mail_is_answered_with_its_errors_and_holds_nothing_up(
    stack: Stack, services: ServiceRunner, reader: TopicReader
) -> None:
    claimed, good = uuid4(), uuid4()
    await publish(
        stack.bootstrap_servers,
        stack.topics.requested,
        build_mail(send_at="tomorrow", id=str(claimed)),
        build_mail(send_at="tomorrow"),
        build_mail(priority="bulk", id=str(good)),
    )
    await start_worker(services)
    await reader.wait_for(is_released)
    named, derived = sorted(await reader.wait_for(is_failed, 2), key=lambda record: "id" in record.data)
    for record in (named, derived):
        assert record.data["reason"] == "invalid_request"
        assert [error["pointer"] for error in record.data["errors"]] == ["/send_at"]
        assert record.data["source"]["topic"] == stack.topics.requested
    assert "id" not in named.data
    assert named.key is None
    assert derived.key == derived.data["id"]


async def test_times_out_of_range_and_strange_headers_hold_nothing_up(
    stack: Stack, services: ServiceRunner, reader: TopicReader, database: Database
) -> None:
    far, good = uuid4(), uuid4()
    await publish(
        stack.bootstrap_servers,
        stack.topics.requested,
        build_mail(send_at="9999-12-31T23:59:59-05:00"),
        build_mail(send_at="9999-12-31T23:59:59Z", id=str(far)),
        build_mail(priority="bulk", id=str(good)),
        headers={"traceparent": "a\x00b"},
    )
    await start_worker(services)
    (released,) = await reader.wait_for(is_released)
    assert released.data["id"] == str(good)
    (failed,) = await reader.wait_for(is_failed)
    assert failed.data["errors"] == [{"detail": "lies outside the years 1 to 9999 in UTC", "pointer": "/send_at"}]
    assert await find_state(database, far) == "pending"


async def test_a_cancelled_mail_ends_once_for_all_its_recipients_and_never_leaves(
    stack: Stack, services: ServiceRunner, reader: TopicReader, database: Database
) -> None:
    await start_worker(services)
    mail_id = uuid4()
    mail = build_mail(3, id=str(mail_id), to=["b@y.org", "c@y.org"], account="shop", tags=["t"])
    await publish(stack.bootstrap_servers, stack.topics.requested, mail)
    await wait_for_state(database, mail_id, "pending")
    foreign = {"id": str(mail_id), "cancel": True, "account": "another"}
    own = {"id": str(mail_id), "cancel": True, "account": "shop"}
    await publish(stack.bootstrap_servers, stack.topics.requested, foreign, headers=CANCELLATION)
    await asyncio.sleep(0.7)
    assert await find_state(database, mail_id) == "pending"
    await publish(stack.bootstrap_servers, stack.topics.requested, own, own)
    (failed,) = await reader.wait_for(is_failed)
    assert failed.key == str(mail_id)
    assert failed.headers["ce_type"] == "email.failed"
    assert (failed.data["reason"], failed.data["final"], failed.data["complete"]) == ("cancelled", True, True)
    assert [each["address"] for each in failed.data["outcomes"]] == ["b@y.org", "c@y.org"]
    assert (failed.data["account"], failed.data["tags"]) == ("shop", ["t"])
    await asyncio.sleep(3.5)
    assert not any(is_released(record) for record in reader.seen)
    assert len([record for record in reader.seen if is_failed(record)]) == 1


async def test_a_cancellation_that_comes_first_takes_effect_when_the_mail_arrives(
    stack: Stack, services: ServiceRunner, reader: TopicReader, database: Database
) -> None:
    await start_worker(services)
    mine, foreign = uuid4(), uuid4()
    await publish(
        stack.bootstrap_servers,
        stack.topics.requested,
        {"id": str(mine), "cancel": True},
        {"id": str(foreign), "cancel": True, "account": "another"},
    )
    await asyncio.sleep(1)
    mails = [build_mail(priority="bulk", id=str(mail_id)) for mail_id in (mine, foreign)]
    await publish(stack.bootstrap_servers, stack.topics.requested, *mails)
    (failed,) = await reader.wait_for(is_failed)
    assert failed.data["id"] == str(mine)
    (released,) = await reader.wait_for(is_released)
    assert released.data["id"] == str(foreign)
    assert await find_state(database, mine, "bulk_mail") == "cancelled"


async def test_a_cancellation_after_release_changes_nothing(
    stack: Stack, services: ServiceRunner, reader: TopicReader, database: Database
) -> None:
    await start_worker(services)
    mail_id = uuid4()
    await publish(stack.bootstrap_servers, stack.topics.requested, build_mail(priority="bulk", id=str(mail_id)))
    await wait_for_state(database, mail_id, "queued", "bulk_mail")
    await publish(stack.bootstrap_servers, stack.topics.requested, {"id": str(mail_id), "cancel": True})
    await asyncio.sleep(1)
    assert await find_state(database, mail_id, "bulk_mail") == "queued"
    assert not any(is_failed(record) for record in reader.seen)


async def test_what_was_changed_over_http_is_told_once_and_the_mail_leaves_at_its_new_time(
    stack: Stack, services: ServiceRunner, reader: TopicReader, database: Database
) -> None:
    """The API only writes rows, as a process does that is killed before it has told anybody."""
    moved, named, bulk, cancelled = (uuid4() for _ in range(4))
    waiting = WaitingStore(database, database)
    mails = [{"to": f"user{number}@y.org"} for number in range(3)]
    expiry = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
    await publish(
        stack.bootstrap_servers,
        stack.topics.requested,
        build_mail(3600, id=str(moved)),
        build_mail(600, id=str(named), expires_at=expiry.isoformat()),
        {"bulk_id": str(bulk), "from": "a@x.org", "subject": "s", "text": "t", "mails": mails}
        | {"send_at": build_mail(600)["send_at"]},
        build_mail(600, id=str(cancelled)),
        headers=headers,
    )
    await start_worker(services)
    row_id = uuid5(bulk, "bulk event")
    for mail_id in (moved, named, row_id, cancelled):
        await wait_for_state(database, mail_id, "pending")
    send_at = datetime.now(UTC) + timedelta(seconds=1)
    for mail_id in (moved, named):
        assert await waiting.reschedule(mail_id, "default", send_at)
    for mail_id in (row_id, cancelled):
        assert await waiting.cancel(mail_id, "default")

    released = {each.key: each for each in await reader.wait_for(is_released, 4) if is_request(each)}
    assert released.keys() == {str(moved), str(named)}
    assert all(-0.05 < each.seen_at - send_at.timestamp() < 2 for each in released.values())
    whole = (send_at + timedelta(hours=72)).replace(microsecond=0)
    assert datetime.fromisoformat(released[str(moved)].data["expires_at"]) == whole
    assert datetime.fromisoformat(released[str(named)].data["expires_at"]) == expiry
    told = [each for each in reader.seen if each.headers.get("ce_type") == "email.rescheduled"]
    assert {each.key for each in told} == {str(moved), str(named)}
    assert all(datetime.fromisoformat(each.data["send_at"]) == send_at for each in told)
    ends = await reader.wait_for(is_failed, 4)
    assert {each.data["recipients"][0]["address"] for each in ends} == {"b@y.org", *(each["to"] for each in mails)}
    assert {each.data["reason"] for each in ends} == {"cancelled"}
    assert {each.headers["traceparent"].split("-")[1] for each in (*told, *ends)} == {TRACE_ID}
    await asyncio.sleep(0.5)
    assert len([each for each in reader.seen if is_failed(each)]) == 4
    assert await database.fetch("SELECT 1 FROM scheduler.announcement") == []
    assert await database.fetch("SELECT 1 FROM scheduler.delayed WHERE event IS NOT NULL") == []


async def test_wishes_at_the_moment_mail_is_due_leave_each_with_one_end(
    stack: Stack, services: ServiceRunner, reader: TopicReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers; `make chaos` has a thousand, with senders, a relay, and workers that are killed."""
    monkeypatch.setenv("MILENA_DATABASE_URL", stack.database_url)
    for slot in ("0", "1"):
        await start_worker(services, MILENA_SLOT=slot)
    app, caller = create_api(ApiSettings()), await mint(stack.database_url)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://x", headers=caller.headers) as api,
    ):
        races = await race(stack, api, build_mail(), 150, lead_s=3, over_s=2, seed=7)
    ids = set(races.ids)
    await reader.wait_for(lambda _: ids <= {each.key for each in reader.seen if is_failed(each) or is_released(each)})
    await asyncio.sleep(1)  # time for a second end, which must not come
    left = Counter(str(each.key) for each in reader.seen if is_released(each) and is_request(each))
    cancelled = count_cancelled(reader.seen)
    assert races.find_faults(left, cancelled) == []
    assert set(left.values()) == set(cancelled.values()) == {1}, "the race was none, or something ended twice"


async def test_a_mail_left_releasing_by_a_death_is_published_again_after_the_lease(
    stack: Stack, services: ServiceRunner, reader: TopicReader, database: Database
) -> None:
    mail_id = uuid4()
    await database.fetch(
        "INSERT INTO scheduler.delayed (id, account, state, due_at, event, lease_token, lease_until)"
        " VALUES ($1, 'default', 'releasing', now(), $2, $1, now() + interval '2 s')",
        mail_id,
        orjson.dumps(build_mail(id=str(mail_id))),
    )
    await start_worker(services)
    await publish(stack.bootstrap_servers, stack.topics.requested, {"id": str(mail_id), "cancel": True})
    (released,) = await reader.wait_for(is_released)
    assert released.data["id"] == str(mail_id)
    await wait_for_state(database, mail_id, "released")
    assert not any(is_failed(record) for record in reader.seen)


async def test_a_worker_killed_again_and_again_loses_no_mail(
    stack: Stack, services: ServiceRunner, reader: TopicReader, database: Database
) -> None:
    worker = await start_worker(services, MILENA_RELEASE_LEASE_S="1")
    ids = [str(uuid4()) for _ in range(300)]
    mails = [build_mail(2 + n * 0.02, id=mail_id) for n, mail_id in enumerate(ids)]
    await publish(stack.bootstrap_servers, stack.topics.requested, *mails)
    for already_released in (5, 100, 200):
        await reader.wait_for(is_released, already_released, timeout_s=60)
        worker.kill()
        worker.restart()
    await worker.wait_ready()
    for mail_id in ids:
        await wait_for_state(database, UUID(mail_id), "released")
    await reader.wait_for(lambda _: {record.data["id"] for record in reader.seen if is_released(record)} == set(ids))
    worker.terminate()
    assert await worker.wait_exit() == 0


async def test_the_worker_goes_on_after_an_outage_of_postgresql(
    stack: Stack, services: ServiceRunner, reader: TopicReader, database: Database
) -> None:
    async with DatabaseProxy(stack.database_url) as proxy:
        worker = await start_worker(services, MILENA_DATABASE_URL=proxy.url)
        await proxy.cut()
        mail_id = uuid4()
        await publish(stack.bootstrap_servers, stack.topics.requested, build_mail(priority="bulk", id=str(mail_id)))
        await asyncio.sleep(1.5)
        assert not any(is_released(record) for record in reader.seen)
        await proxy.mend()
        (released,) = await reader.wait_for(is_released)
        assert released.data["id"] == str(mail_id)
        worker.terminate()
        assert await worker.wait_exit() == 0


async def test_the_worker_says_that_kafka_is_away_and_stops_all_the_same(services: ServiceRunner) -> None:
    worker = services.start(
        "services.scheduler", "worker", env={"MILENA_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{find_free_port()}"}
    )
    async with httpx.AsyncClient() as client:
        for _ in range(300):
            with contextlib.suppress(httpx.HTTPError):
                answer = await client.get(f"{worker.url}/readyz")
                break
            await asyncio.sleep(0.05)
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"kafka": "has no partitions assigned yet", "postgresql": "ok"}
    worker.terminate()
    assert await worker.wait_exit() == 0
