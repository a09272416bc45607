"""What the topics say of a mail is what the API shows of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.gateway.company import Company
from services.gateway.worker import Projector
from shared.batching import Record
from shared.database import Database
from shared.events import (
    BulkRequested,
    EmailFailed,
    EmailRequested,
    EmailSent,
    EventType,
    FailedRecipient,
    RecipientOutcome,
    build_headers,
    new_email_id,
)
from shared.kafka_access import KafkaAccess
from shared.states import FailureReason, RecipientState
from tests.support.events import publish_json, publish_raw
from tests.support.gateway import FULL, Caller, mint, poll, serve_gateway
from tests.support.servers import RealServers, run_apart
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.stack import Stack

LINE = "250 2.0.0 Ok: queued as 4dC1bx0Y2z"


@dataclass(frozen=True)
class Gateway:
    """An API and a worker for this module, and callers of two accounts."""

    stack: Stack
    api: ServiceProcess
    worker: ServiceProcess
    caller: Caller
    other: Caller


@pytest.fixture(scope="module")
def gateway(real_servers: RealServers) -> Iterator[Gateway]:
    with serve_gateway(real_servers, "api", "worker") as (stack, (api, worker)):
        caller = run_apart(mint(stack.database_url))
        other = run_apart(mint(stack.database_url, account="other"))
        yield Gateway(stack, api, worker, caller, other)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    headers = gateway.caller.headers
    async with httpx.AsyncClient(base_url=gateway.api.url, timeout=30, headers=headers) as client:
        yield client


def make_sent(email_id: UUID, attempt: int, *recipients: str, **fields: Any) -> EmailSent:
    return EmailSent(
        id=email_id,
        attempt=attempt,
        recipients=list(recipients),
        message_id=f"<{email_id}@example.com>",
        relay="relay.example:25",
        response=LINE,
        sent_at=datetime.now(UTC),
        outstanding=0,
        **fields,
    )


def make_failed(
    email_id: UUID | None, attempt: int, reason: FailureReason, *recipients: str, final: bool, **fields: Any
) -> EmailFailed:
    refused = [FailedRecipient(address=each, smtp_code=550, diagnostic="550 5.1.1 no such user") for each in recipients]
    return EmailFailed(id=email_id, attempt=attempt, reason=reason, recipients=refused, final=final, **fields)


async def publish_result(stack: Stack, *events: EmailSent | EmailFailed) -> None:
    for event in events:
        is_sent = isinstance(event, EmailSent)
        kind = EventType.SENT if is_sent else EventType.FAILED
        ce_id = event.event_id() if event.id else uuid4()
        headers = build_headers(kind, ce_id, "/milena/sender", datetime.now(UTC), None)
        topic = stack.topics.sent if is_sent else stack.topics.failed
        await publish_raw(stack, event.to_json(), topic=topic, headers=headers)


async def test_a_mail_can_be_read_right_after_its_202(client: httpx.AsyncClient) -> None:
    body = {**FULL, "tags": ["order"], "metadata": {"order": 12}, "bcc": ["hidden@example.org"]}
    accepted = await client.post("/v1/emails", json=body)
    answer = await client.get(accepted.headers["location"])
    assert answer.status_code == 200
    email = answer.json()
    assert email["id"] == accepted.json()["id"]
    assert (email["status"], email["complete"], email["attempts"]) == ("queued", False, 0)
    assert (email["from"], email["to"]) == ("Shop <no-reply@example.com>", ["Ann <ann@example.org>"])
    assert (email["subject"], email["tags"], email["metadata"]) == ("Hello", ["order"], {"order": 12})
    assert [each["state"] for each in email["recipients"]] == ["pending", "pending"]
    assert email["links"] == {
        "self": f"/v1/emails/{email['id']}",
        "events": f"/v1/emails/{email['id']}/events",
        "deliveries": f"/v1/webhooks/deliveries?email_id={email['id']}",
    }
    timeline = (await client.get(email["links"]["events"])).json()
    assert [event["type"] for event in timeline["events"]] == ["email.requested"]


async def test_results_become_status_recipients_and_a_timeline(gateway: Gateway, client: httpx.AsyncClient) -> None:
    body = {**FULL, "to": ["a@example.org", "b@example.org"]}
    accepted = await client.post("/v1/emails", json=body)
    path, email_id = accepted.headers["location"], UUID(accepted.json()["id"])
    retry_at = datetime.now(UTC) + timedelta(minutes=1)
    deferred = make_failed(
        email_id, 1, FailureReason.DEFERRED, "a@example.org", "b@example.org", final=False, retry_at=retry_at
    )
    await publish_result(gateway.stack, deferred)
    email = await poll(client, path, lambda email: email["status"] == "deferred")
    assert email["recipients"][0]["reason"] == "deferred"
    outcomes = [
        RecipientOutcome(address="a@example.org", state=RecipientState.SENT, attempt=2),
        RecipientOutcome(address="b@example.org", state=RecipientState.FAILED, attempt=2),
    ]
    rejected = make_failed(
        email_id, 2, FailureReason.REJECTED, "b@example.org", final=True, complete=True, outcomes=outcomes
    )
    await publish_result(gateway.stack, make_sent(email_id, 2, "a@example.org"), rejected)
    email = await poll(client, path, lambda email: email["complete"])
    assert (email["status"], email["attempts"]) == ("partially_sent", 2)
    assert email["message_id"] == f"<{email_id}@example.com>"
    sent, failed = email["recipients"]
    assert (sent["address"], sent["state"], sent["attempt"], sent["smtp_code"]) == ("a@example.org", "sent", 2, 250)
    assert sent["response"] == LINE
    assert (failed["state"], failed["reason"], failed["smtp_code"]) == ("failed", "rejected", 550)
    assert failed["response"] == "550 5.1.1 no such user"
    timeline = (await client.get(f"{path}/events")).json()
    assert timeline["status"] == "partially_sent"
    assert [event["type"] for event in timeline["events"]] == [
        "email.requested",
        "email.failed",
        "email.sent",
        "email.failed",
    ]
    _, first, second, third = timeline["events"]
    assert (first["reason"], first["final"], first["attempt"]) == ("deferred", False, 1)
    assert "retry_at" in first
    assert (second["response"], second["relay"], second["recipients"]) == (
        LINE,
        "relay.example:25",
        [{"address": "a@example.org"}],
    )
    assert second["id"] == str(make_sent(email_id, 2, "a@example.org").event_id())
    assert (third["complete"], third["recipients"][0]["diagnostic"]) == (True, "550 5.1.1 no such user")


async def test_a_mail_another_service_published_appears_just_the_same(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    email_id = uuid4()
    event = {"id": str(email_id), "from": "any@where.test", "to": "a@x.org, B <b@x.org>", "subject": "s", "text": "t"}
    await publish_json(gateway.stack, event, event, event)
    email = await poll(client, f"/v1/emails/{email_id}", lambda _: True)
    assert (email["from"], email["to"], email["status"]) == ("any@where.test", ["a@x.org", "B <b@x.org>"], "queued")
    result = make_sent(email_id, 1, "a@x.org", "b@x.org", complete=True)
    await publish_result(gateway.stack, result, result, result)
    await poll(client, f"/v1/emails/{email_id}", lambda email: email["status"] == "sent")
    timeline = (await client.get(f"/v1/emails/{email_id}/events")).json()
    assert [each["type"] for each in timeline["events"]] == ["email.requested", "email.sent"]


async def test_a_result_may_be_read_before_its_request(gateway: Gateway, client: httpx.AsyncClient) -> None:
    email_id = new_email_id()
    await publish_result(gateway.stack, make_sent(email_id, 1, "a@x.org", complete=True))
    early = await poll(client, f"/v1/emails/{email_id}", lambda email: email["status"] == "sent")
    assert "subject" not in early
    request = {"id": str(email_id), "from": "a@where.test", "to": "a@x.org", "subject": "late", "text": "t"}
    await publish_json(gateway.stack, request)
    email = await poll(client, f"/v1/emails/{email_id}", lambda email: email.get("subject") == "late")
    assert email["status"] == "sent"


async def test_held_mail_is_scheduled_until_it_is_released(gateway: Gateway, client: httpx.AsyncClient) -> None:
    accepted = await client.post("/v1/emails", json={**FULL, "send_at": "2030-01-01T00:00:00Z"})
    path = accepted.headers["location"]
    email = await poll(client, path, lambda email: email["status"] == "scheduled")
    assert email["send_at"] == "2030-01-01T00:00:00Z"
    released = {**FULL, "id": accepted.json()["id"], "expires_at": "2030-01-04T00:00:00Z"}
    await publish_json(gateway.stack, released)
    email = await poll(client, path, lambda email: email["status"] == "queued")
    assert (email["send_at"], email["expires_at"]) == ("2030-01-01T00:00:00Z", "2030-01-04T00:00:00Z")
    events = (await client.get(f"{path}/events")).json()["events"]
    assert [each["detail"] for each in events] == ["waits for its time", "released"]


async def test_a_cancellation_is_in_the_timeline_and_makes_no_mail(gateway: Gateway, client: httpx.AsyncClient) -> None:
    accepted = await client.post("/v1/emails", json={**FULL, "send_at": "2030-01-01T00:00:00Z"})
    email_id, path = UUID(accepted.json()["id"]), accepted.headers["location"]
    nobodys = uuid4()
    await publish_json(gateway.stack, {"id": str(nobodys), "cancel": True}, {"id": str(email_id), "cancel": True})
    await publish_result(
        gateway.stack,
        make_failed(email_id, 0, FailureReason.CANCELLED, "ann@example.org", final=True, complete=True),
    )
    await poll(client, path, lambda email: email["status"] == "cancelled")
    types = [event["type"] for event in (await client.get(f"{path}/events")).json()["events"]]
    assert types == ["email.requested", "email.cancellation_requested", "email.failed"]
    assert (await client.get(f"/v1/emails/{nobodys}")).status_code == 404


async def test_another_content_under_the_same_id_is_a_conflict(gateway: Gateway, client: httpx.AsyncClient) -> None:
    accepted = await client.post("/v1/emails", json=FULL)
    path, email_id = accepted.headers["location"], accepted.json()["id"]
    await poll(client, path, lambda _: True)
    await publish_json(gateway.stack, {**FULL, "id": email_id, "subject": "Another"})
    timeline = await poll(client, f"{path}/events", lambda timeline: len(timeline["events"]) == 2)
    assert timeline["events"][1]["detail"].startswith("conflict")
    assert (await client.get(path)).json()["subject"] == "Hello"


async def test_what_cannot_be_read_is_skipped_and_its_answer_shown(gateway: Gateway, client: httpx.AsyncClient) -> None:
    derived, unlucky = uuid4(), new_email_id()
    await publish_raw(gateway.stack, b"not json", b"", b"[]", b'{"from": 1}', None)
    await publish_result(
        gateway.stack,
        make_failed(
            derived, 0, FailureReason.INVALID_REQUEST, final=True, errors=[{"detail": "is needed", "pointer": "/to"}]
        ),
        make_failed(None, 0, FailureReason.INVALID_REQUEST, final=True),
        make_sent(unlucky, 1, "a@x.org", complete=True),
    )
    email = await poll(client, f"/v1/emails/{derived}", lambda email: email["status"] == "failed")
    assert email["recipients"] == []
    events = (await client.get(f"/v1/emails/{derived}/events")).json()["events"]
    assert events[0]["errors"] == [{"detail": "is needed", "pointer": "/to"}]
    await poll(client, f"/v1/emails/{unlucky}", lambda email: email["status"] == "sent")


async def test_mails_belong_to_their_account(gateway: Gateway, client: httpx.AsyncClient) -> None:
    accepted = await client.post("/v1/emails", json=FULL, headers=gateway.other.headers)
    path = accepted.headers["location"]
    assert (await client.get(path, headers=gateway.other.headers)).status_code == 200
    for suffix in ("", "/events"):
        assert (await client.get(f"{path}{suffix}")).status_code == 404


async def test_a_nul_in_metadata_stops_nobody(gateway: Gateway, client: httpx.AsyncClient) -> None:
    accepted = await client.post("/v1/emails", json={**FULL, "metadata": {"x": "a\x00b"}})
    assert accepted.status_code == 202
    email = await poll(client, accepted.headers["location"], lambda _: True)
    assert email["metadata"] == {"x": "a\ufffdb"}


async def test_a_killed_worker_goes_on_where_it_was(services: ServiceRunner, stack: Stack) -> None:
    caller = await mint(stack.database_url)
    worker = services.start("services.gateway", "worker")
    api = services.start("services.gateway", "api")
    ids = [new_email_id() for _ in range(300)]
    requests = [{"id": str(each), "from": "a@x.org", "to": "b@x.org", "subject": "s", "text": "t"} for each in ids]
    await worker.wait_ready()
    await publish_json(stack, *requests[:150])
    worker.kill()
    await publish_json(stack, *requests[150:])
    worker.restart()
    await api.wait_ready()
    async with httpx.AsyncClient(base_url=api.url, timeout=30, headers=caller.headers) as client:
        for email_id in ids:
            await poll(client, f"/v1/emails/{email_id}", lambda email: email["status"] == "queued", timeout_s=40)


class TestProjector:
    """The projector on a real database, without Kafka: what several workers do to one another."""

    @pytest.fixture
    async def database(self, database_url: str) -> AsyncIterator[Database]:
        database = Database(database_url)
        yield database
        await database.close()

    async def test_workers_at_once_lose_nothing(self, database: Database) -> None:
        projectors = [make_projector(database) for _ in range(4)]
        ids = [new_email_id() for _ in range(50)]
        batches = [[request_record(each, number) for number, each in enumerate(ids)]]
        batches += [
            [result_record(make_sent(each, 1, f"{name}@x.org"), number) for number, each in enumerate(ids)]
            for name in ("a", "b", "c")
        ]
        for _ in range(2):
            await asyncio.gather(
                *(projector.project(batch) for projector, batch in zip(projectors, batches, strict=True))
            )
        rows = await database.fetch("SELECT status, recipients::text AS recipients FROM gateway.emails")
        assert len(rows) == 50
        for row in rows:
            assert row["status"] == "sent"
            assert [each["state"] for each in json.loads(row["recipients"])] == ["sent"] * 3
        assert (await database.fetch("SELECT count(*) AS n FROM gateway.timeline"))[0]["n"] == 200

    async def test_a_repeated_batch_writes_nothing(self, database: Database) -> None:
        projector = make_projector(database)
        batch = [request_record(new_email_id(), number) for number in range(5)]
        await projector.project(batch)
        await projector.project(batch)
        assert {row["version"] for row in await database.fetch("SELECT version FROM gateway.emails")} == {1}

    async def test_a_paced_mail_and_its_result_are_written_once(self, database: Database) -> None:
        projector = make_projector(database, Company())
        asked, other = new_email_id(), new_email_id()
        fields = {"from": "s@x.org", "subject": "s", "text": "t", "paced": True}
        mails = [{"id": str(each), "to": "a@x.org"} for each in (asked, other)]
        event = BulkRequested.model_validate({"bulk_id": str(uuid4()), **fields, "mails": mails})
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        record = Record("email.requested", 0, 4, now_ms, event.to_json(), (("ce_type", b"email.bulk_requested"),))
        digest = event.list_mails()[0].compute_digest()
        end = result_record(make_sent(asked, 1, "a@x.org", complete=True, digest=digest), 2)
        assert await projector.project([record]) == {("email.requested", 0): 4}
        assert await database.fetch("SELECT 1 FROM gateway.emails") == []
        assert await projector.project([end]) == {("email.requested", 0): 4}
        rows = await database.fetch("SELECT id, status, version, batch_id FROM gateway.emails")
        assert [tuple(row) for row in rows] == [(asked, "sent", 1, None)]
        lines = await database.fetch("SELECT type FROM gateway.timeline WHERE email_id = $1 ORDER BY type", asked)
        assert [row["type"] for row in lines] == ["email.requested", "email.sent"]
        while await projector.project([]):
            await asyncio.sleep(0.2)
        rows = await database.fetch("SELECT status FROM gateway.emails WHERE id = $1", other)
        assert [row["status"] for row in rows] == ["queued"]

    async def test_what_cannot_be_copied_is_written_all_the_same(self, database: Database) -> None:
        projector = make_projector(database)
        known, new = new_email_id(), new_email_id()
        first = request_record(known, 1)
        await projector.project([first])
        await projector.project([first, request_record(new, 2)])
        projector = make_projector(database)  # one that has not seen a COPY fail
        odd = new_email_id()
        body = {"id": str(odd), "from": "s@x.org", "to": "a@x.org", "subject": "s", "text": "t"}
        event = EmailRequested.model_validate({**body, "metadata": {"a": "b\0c"}})
        await projector.project([Record("email.requested", 0, 3, 1_700_000_000_000, event.to_json(), ())])
        rows = await database.fetch("SELECT id, version, metadata ->> 'a' AS a FROM gateway.emails")
        assert {tuple(row) for row in rows} == {(known, 1, None), (new, 1, None), (odd, 1, "b\ufffdc")}
        assert len(await database.fetch("SELECT 1 FROM gateway.timeline")) == 3

    async def test_an_end_that_comes_first_and_one_that_comes_last_make_the_same_row(self, database: Database) -> None:
        projector, found = make_projector(database), []
        for in_order in (True, False):
            email_id, at = new_email_id(), datetime.now(UTC).replace(microsecond=0)
            request = request_record(email_id, 1, to="a@x.org", at=at)
            assert request.value
            digest = EmailRequested.model_validate_json(request.value).compute_digest()
            end = result_record(make_sent(email_id, 1, "a@x.org", complete=True, digest=digest), 2, at=at)
            for record in (request, end, end) if in_order else (end, end, request):
                await projector.project([record])
            (row,) = await database.fetch("SELECT * FROM gateway.emails WHERE id = $1", email_id)
            assert (row["status"], row["version"]) == ("sent", 2)
            own = (
                "id",
                "message_id",
                "digest",
                "ledger_digest",
                "created_at",
                "updated_at",
                "recorded_at",
                "recipients",
            )
            found.append({name: value for name, value in row.items() if name not in own})
        assert found[0] == found[1]

    async def test_rows_lie_in_the_partition_of_their_id_and_strangers_in_the_first_days(
        self, database: Database
    ) -> None:
        projector = make_projector(database)
        ours, strange = new_email_id(), uuid4()
        await projector.project([request_record(ours, 1), request_record(strange, 2)])
        later = datetime.now(UTC) + timedelta(days=3)
        await projector.project([result_record(make_sent(strange, 1, "a@x.org"), 3, at=later)])
        rows = await database.fetch("SELECT id, bucket, tableoid::regclass::text AS part FROM gateway.emails")
        today = datetime.now(UTC).date()
        assert {row["id"] for row in rows} == {ours, strange}
        assert all(row["bucket"] == today for row in rows)
        assert {row["part"] for row in rows} == {f"gateway.emails_{today:%Y%m%d}"}
        assert [row["id"] for row in await database.fetch("SELECT id FROM gateway.locator")] == [strange]

    async def test_a_mail_that_waited_for_long_stays_one_row(self, database: Database) -> None:
        projector = make_projector(database)
        email_id = new_email_id()
        await projector.project([request_record(email_id, 1)])
        much_later = datetime.now(UTC) + timedelta(days=200)
        await projector.project([result_record(make_sent(email_id, 1, "a@x.org"), 2, at=much_later)])
        assert len(await database.fetch("SELECT 1 FROM gateway.emails")) == 1

    async def test_an_id_from_the_far_future_gets_no_partition(self, database: Database) -> None:
        projector = make_projector(database)
        email_id = UUID(int=(32_503_680_000_000 << 80) | (7 << 76) | (2 << 62) | 5)
        await projector.project([request_record(email_id, 1)])
        (row,) = await database.fetch("SELECT bucket FROM gateway.emails")
        assert row["bucket"] == datetime.now(UTC).date()

    async def test_a_look_up_by_bare_id_reads_one_partition(self, database: Database) -> None:
        projector = make_projector(database)
        email_id = new_email_id()
        await projector.project([request_record(email_id, 1)])
        plan = await database.fetch(
            "EXPLAIN SELECT * FROM gateway.emails WHERE bucket = $1 AND id = ANY($2)",
            datetime.now(UTC).date(),
            [email_id],
        )
        tables = [line for (line,) in plan if " on " in line]
        assert len(tables) == 1, tables

    async def test_days_whose_rows_fell_into_the_default_partition_go_on(self, database: Database) -> None:
        today = datetime.now(UTC).date()
        await database.fetch(
            "INSERT INTO gateway.timeline VALUES ($1, $2, $2, 'x', 'default', now(), 't', 0, 0, '{}')", today, uuid4()
        )
        await make_projector(database).project([request_record(new_email_id(), 1)])
        assert len(await database.fetch("SELECT 1 FROM gateway.emails")) == 1
        assert len(await database.fetch("SELECT 1 FROM gateway.timeline_default")) == 2


def make_projector(database: Database, company: Company | None = None) -> Projector:
    return Projector(database, kafka=KafkaAccess(""), event_limit=1024 * 1024, cluster_id="cluster", company=company)


def request_record(
    email_id: UUID, offset: int, to: str = "a@x.org, b@x.org, c@x.org", at: datetime | None = None
) -> Record:
    body = {"id": str(email_id), "from": "s@x.org", "to": to, "subject": "s", "text": "t"}
    event = EmailRequested.model_validate(body)
    at_ms = int((at or datetime.now(UTC)).timestamp() * 1000)
    return Record("email.requested", 0, offset, at_ms, event.to_json(), (("ce_type", b"email.requested"),))


def result_record(event: EmailSent, offset: int, at: datetime | None = None) -> Record:
    headers = build_headers(EventType.SENT, event.event_id(), "/milena/sender", datetime.now(UTC), None)
    at_ms = int((at or datetime.now(UTC)).timestamp() * 1000)
    return Record("email.sent", 0, offset, at_ms, event.to_json(), tuple(headers))
