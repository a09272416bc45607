"""Batches over HTTP, on a real PostgreSQL; what senders would do to their mails is done to the rows."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.scheduler.api import create_api
from services.scheduler.batches.ending import BatchWatcher
from services.scheduler.batches.look_store import LOOKS, BatchLookStore
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.settings import ApiSettings
from shared.access import AccessStore, ApiScope, digest_key
from shared.database import Database
from shared.live import TicketOffice
from shared.producing import Message
from tests.support.servers import RealServers
from tests.support.stack import MASTER_SECRET

NDJSON = "application/x-ndjson"
CONTENT = {"from": "shop@example.com", "subject": "Hello {{ name }}", "text": "Hello {{ name }}."}


class Published:
    """In place of a publisher."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def publish_all(self, messages: Iterable[Message]) -> None:
        self.messages += messages


@dataclass
class Ground:
    """The API, its database, and a worker's looks."""

    client: httpx.AsyncClient
    database: Database
    key: dict[str, str]
    published: Published
    account: str

    async def list_mails(self) -> list[Any]:
        """The rows of the account's mails."""
        return await self.database.fetch(
            """
            SELECT mail.id, mail.content, mail.own FROM scheduler.bulk_mail AS mail
            JOIN scheduler.bulk_lane AS lane ON lane.id = mail.lane WHERE lane.account = $1 ORDER BY mail.id
            """,
            self.account,
        )

    async def change(self, change: str) -> None:
        """Change the account's batches."""
        await self.database.fetch(f"UPDATE scheduler.batch SET {change} WHERE account = $1", self.account)

    async def create_key(self, account: str, *scopes: ApiScope, **fields: Any) -> dict[str, str]:
        await self.database.fetch("INSERT INTO access.accounts (name) VALUES ($1) ON CONFLICT DO NOTHING", account)
        given = {"scopes": scopes or list(ApiScope), "senders": ["*@example.com"]} | fields
        secret, _ = await AccessStore(self.database).create_key(account, "test", **given)
        return {"Authorization": f"Bearer {secret}"}

    async def upload(
        self, body: Any, *, expect: int = 202, path: str = "/v1/batches", media: str = NDJSON, key: str | None = None
    ) -> Any:
        headers = {**self.key, "content-type": media} | ({"idempotency-key": key} if key else {})
        response = await self.client.post(path, content=body, headers=headers)
        assert response.status_code == expect, response.text
        return response.json()

    async def read(self, path: str, **params: Any) -> Any:
        response = await self.client.get(path, headers=self.key, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    async def do(self, batch_id: str, what: str, *, expect: int = 200) -> Any:
        response = await self.client.post(f"/v1/batches/{batch_id}/{what}", headers=self.key)
        assert response.status_code == expect, response.text
        return response.json()

    async def settle(self, batch_id: str, state: str, count: int, before: str = "pending") -> None:
        """Bring so many mails of a batch from one state into another, as pacing does: rows and counters at once."""
        await self.database.fetch(
            f"""
            WITH chosen AS (
                SELECT id FROM scheduler.bulk_mail WHERE state = $3 AND lane = (
                    SELECT lane FROM scheduler.batch WHERE id = $1) ORDER BY id LIMIT $4),
            moved AS (UPDATE scheduler.bulk_mail AS mail SET state = $2 FROM chosen WHERE mail.id = chosen.id
                      RETURNING mail.lane)
            UPDATE scheduler.bulk_lane SET {before} = {before} - n, {state} = {state} + n, changed_at = now()
            FROM (SELECT lane, count(*) AS n FROM moved GROUP BY lane) AS counted WHERE id = counted.lane
            """,
            UUID(batch_id),
            state,
            before,
            count,
        )

    async def look(self) -> None:
        """A worker's next look at every batch."""
        await self.change("due_at = CASE state WHEN 'receiving' THEN due_at ELSE now() END")
        await self.look_when_due()

    async def look_when_due(self) -> None:
        """A worker's look at what is due by itself."""
        watcher = BatchWatcher(
            BatchLookStore(self.database),
            BulkStore(self.database),
            self.published,  # type: ignore[arg-type]
            "schedule.tick",
        )
        await watcher.look(await LOOKS.lease(self.database, 100, timedelta(seconds=30)))


@pytest.fixture(scope="module")
def own_database_url(real_servers: RealServers) -> Iterator[str]:
    name = real_servers.create_database()
    yield real_servers.postgres().database_url(name)
    real_servers.drop_database(name)


@pytest.fixture
async def ground(own_database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ground]:
    """An account of its own for each test."""
    monkeypatch.setenv("MILENA_DATABASE_URL", own_database_url)
    monkeypatch.setenv("MILENA_MASTER_SECRET", MASTER_SECRET)
    database = Database(own_database_url)
    app = create_api(ApiSettings())
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        ground = Ground(client, database, {}, Published(), f"shop-{uuid4().hex[:8]}")
        ground.key = await ground.create_key(ground.account)
        yield ground
    await database.close()


def mail(number: int, **fields: Any) -> dict[str, Any]:
    return {**CONTENT, "to": [f"r{number}@example.org"], "variables": {"name": f"R{number}"}} | fields


def lines(*items: Any) -> bytes:
    return b"".join((item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n" for item in items)


async def test_lines_become_mails_and_bad_ones_are_told_with_their_place(ground: Ground) -> None:
    answer = await ground.upload(
        lines(mail(1), b"{oops", b"", mail(2, to=["no address"]), mail(3, id=str(uuid4())), [1], mail(4))
    )
    assert (answer["accepted"], answer["invalid"], answer["state"]) == (2, 4, "running")
    assert [(each["number"], each["line"]) for each in answer["problems"]] == [(2, 2), (3, 4), (4, 5), (5, 6)]
    assert answer["problems"][0]["problem"]["type"] == "/problems/malformed-json"
    assert answer["problems"][1]["problem"]["errors"][0]["pointer"] == "/to/0"
    assert answer["problems"][2]["problem"]["errors"][0]["pointer"] == "/id"

    items = (await ground.read(answer["links"]["items"]))["data"]
    assert [item["state"] for item in items] == ["pending", *4 * ["invalid"], "pending"]
    assert [item["number"] for item in items] == [1, 2, 3, 4, 5, 6]
    first = (await ground.read(answer["links"]["items"], limit=2))["next"]
    rest = await ground.read(answer["links"]["items"], limit=2, after=first, state="invalid")
    assert [item["number"] for item in rest["data"]] == [3, 4]
    kept = await ground.list_mails()
    assert [str(row["id"]) for row in kept] == [items[0]["id"], items[5]["id"]]
    assert len({row["content"] for row in kept}) == 1  # what they share is stored once


async def test_an_array_in_pieces_is_the_same_batch(ground: Ground) -> None:
    body = json.dumps([mail(1), 7, mail(2)], indent=1).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 11):
            yield body[start : start + 11]

    answer = await ground.upload(pieces(), media="application/json")
    assert (answer["accepted"], answer["invalid"]) == (2, 1)
    assert "line" not in answer["problems"][0]


async def test_senders_and_templates_are_judged_as_for_single_mails(ground: Ground) -> None:
    answer = await ground.upload(
        lines(
            mail(1),
            mail(2, **{"from": "boss@elsewhere.org"}),
            mail(3, template={"name": "welcome"}),
            mail(4, variables={}),
            mail(5, nonsense=1),
        )
    )
    problems = [each["problem"] for each in answer["problems"]]
    assert [each["status"] for each in problems] == [403, 422, 422, 422]
    assert [each["errors"][0]["pointer"] for each in problems] == ["/from", "/template", "/variables/name", "/nonsense"]
    assert "write subject, text and html into the mail" in problems[1]["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("body", "media", "path", "status", "slug"),
    [
        (lines(mail(1), {}), "application/jsonl", "/v1/batches?all_or_nothing=true", 422, "batch-refused"),
        (lines({}, {}), "application/x-ndjson", "/v1/batches", 422, "batch-refused"),
        (b"", "application/x-ndjson", "/v1/batches", 422, "batch-refused"),
        (b"[]", "application/json", "/v1/batches", 422, "batch-refused"),
        (json.dumps([mail(1)]).encode()[:-1], "application/json", "/v1/batches", 400, "malformed-json"),
        (lines(mail(1)), "application/json", "/v1/batches", 400, "malformed-json"),
        (lines(mail(1)), "text/csv", "/v1/batches", 415, "unsupported-media-type"),
        (lines(mail(1)), "application/jsonl", "/v1/batches?nmae=x", 422, "invalid-content"),
    ],
)
async def test_what_is_refused_leaves_nothing(
    ground: Ground, body: bytes, media: str, path: str, status: int, slug: str
) -> None:
    problem = await ground.upload(body, path=path, expect=status, media=media)
    assert problem["type"] == f"/problems/{slug}"
    await ground.look()
    assert await ground.list_mails() == []
    assert [each["state"] for each in (await ground.read("/v1/batches"))["data"]] in ([], ["aborted"])
    if slug == "batch-refused" and problem.get("invalid"):
        assert len((await ground.read(problem["items"]))["data"]) == problem["invalid"]


async def test_an_upload_that_is_cut_off_starts_nothing_and_is_told(ground: Ground) -> None:
    with pytest.raises(ConnectionError):
        await _upload_until_cut(ground, [mail(number) for number in range(1200)])
    [batch] = (await ground.read("/v1/batches"))["data"]
    assert (batch["state"], batch["percent"]) == ("aborted", 0)
    assert "connection ended" in batch["detail"]
    assert len(await ground.list_mails()) >= 1000
    await ground.look()
    assert await ground.list_mails() == []
    assert ground.published.messages == []


async def _upload_until_cut(ground: Ground, mails: list[Any]) -> None:
    """An ASGI request whose connection ends in the middle."""
    sent = iter([lines(*mails[i : i + 100]) for i in range(0, len(mails), 100)])
    headers = [
        (name.lower().encode(), value.encode()) for name, value in {**ground.key, "content-type": NDJSON}.items()
    ]
    scope = {"type": "http", "method": "POST", "path": "/v1/batches", "raw_path": b"/v1/batches", "query_string": b""}
    scope |= {"headers": headers, "client": ("127.0.0.1", 1), "server": ("x", 80), "scheme": "http", "root_path": ""}
    answers: list[Any] = []

    async def receive() -> Any:
        part = next(sent, None)
        return {"type": "http.request", "body": part, "more_body": True} if part else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        answers.append(message)

    await ground.client._transport.app(scope | {"http_version": "1.1", "asgi": {"version": "3.0"}}, receive, send)  # type: ignore[attr-defined]
    assert answers[0]["status"] == 400
    raise ConnectionError


async def test_an_upload_whose_process_died_is_given_up(ground: Ground) -> None:
    answer = await ground.upload(lines(mail(1)), key="k1")
    await ground.change("state = 'receiving', due_at = now() - interval '1 s'")
    await ground.look_when_due()
    batch = await ground.read(f"/v1/batches/{answer['id']}")
    assert (batch["state"], batch["detail"][:26]) == ("aborted", "The upload was cut off: th")
    again = await ground.upload(lines(mail(1)), key="k1")
    assert again["id"] != answer["id"]


async def test_a_repeat_with_its_key_is_the_same_batch(ground: Ground) -> None:
    body = lines(mail(1), mail(2))
    first = await ground.upload(body, key='"k1"')
    again = await ground.upload(body, key="k1")
    assert (again["id"], again["accepted"]) == (first["id"], 2)
    other = await ground.upload(lines(mail(3)), expect=422, key="k1")
    assert other["type"] == "/problems/idempotency-key-reused"
    assert len(await ground.list_mails()) == 2
    await ground.change("state = 'receiving', due_at = now() + interval '1 min'")
    busy = await ground.upload(body, expect=409, key="k1")
    assert busy["type"] == "/problems/idempotency-key-in-flight"


async def test_a_used_up_quota_starts_nothing(ground: Ground) -> None:
    ground.key = await ground.create_key(ground.account, mail_rate=0.1)
    await ground.upload(lines(mail(1), mail(2)))
    problem = await ground.upload(lines(mail(3)), expect=429)
    assert problem["limit"] == "mails"
    assert [each["state"] for each in (await ground.read("/v1/batches"))["data"]] == ["aborted", "running"]


async def test_progress_is_told_until_its_end_which_is_published_once_by_id(ground: Ground) -> None:
    answer = await ground.upload(lines(*map(mail, range(4)), {}), path="/v1/batches?name=Spring")
    path = f"/v1/batches/{answer['id']}"
    await ground.settle(answer["id"], "queued", 2)
    await ground.settle(answer["id"], "sent", 1, "queued")
    await asyncio.sleep(0.05)
    await ground.look()
    batch = await ground.read(path)
    assert (batch["state"], batch["percent"], batch["name"]) == ("running", 25.0, "Spring")
    assert {name: count for name, count in batch["counts"].items() if count} == {
        "items": 5, "invalid": 1, "accepted": 4, "pending": 2, "handed_out": 1, "sent": 1,
    }  # fmt: skip
    assert batch["rate"] > 0 and batch["estimated_end"] > batch["created_at"]
    await ground.settle(answer["id"], "failed", 1, "queued")
    await ground.settle(answer["id"], "sent", 2)
    for _ in range(2):
        await ground.change("told_at = NULL, lease_until = NULL")
        await ground.look()
    batch = await ground.read(path)
    assert (batch["state"], batch["percent"]) == ("finished", 100.0)
    first, again = ground.published.messages
    assert (first.topic, first.key, first.value) == ("schedule.tick", answer["id"].encode(), again.value)
    assert dict(first.headers)["ce_id"] == dict(again.headers)["ce_id"]
    assert json.loads(first.value)["counts"] == {
        "accepted": 4, "invalid": 1, "sent": 3, "partially_sent": 0, "failed": 1, "expired": 0, "cancelled": 0,
    }  # fmt: skip


async def test_pause_resume_and_cancel_say_how_it_stands(ground: Ground) -> None:
    answer = await ground.upload(lines(mail(1), mail(2)))
    assert (await ground.do(answer["id"], "pause"))["state"] == "paused"
    assert (await ground.do(answer["id"], "pause"))["state"] == "paused"
    assert (await ground.do(answer["id"], "resume"))["state"] == "running"
    assert (await ground.do(answer["id"], "cancel"))["state"] == "cancelled"
    problem = await ground.do(answer["id"], "resume", expect=409)
    assert (problem["type"], problem["state"]) == ("/problems/batch-state", "cancelled")
    await ground.settle(answer["id"], "cancelled", 2)
    await ground.look()
    assert json.loads(ground.published.messages[0].value)["state"] == "cancelled"
    assert (await ground.read(f"/v1/batches/{answer['id']}"))["percent"] == 100.0


async def test_the_failed_are_tried_again_as_a_batch_of_their_own(ground: Ground) -> None:
    mails = [*map(mail, range(3)), mail(3, cc=["c@example.org"], tags=["x"])]
    answer = await ground.upload(lines(*mails))
    assert (await ground.do(answer["id"], "retry", expect=409))["type"] == "/problems/not-final"
    await ground.settle(answer["id"], "sent", 2)
    await ground.settle(answer["id"], "failed", 2)
    await ground.look()
    retry = await ground.do(answer["id"], "retry", expect=202)
    assert (retry["retry_of"], retry["counts"]["accepted"], retry["state"]) == (answer["id"], 2, "running")
    assert (await ground.do(answer["id"], "retry", expect=202))["id"] == retry["id"]
    assert (await ground.read(f"/v1/batches/{answer['id']}"))["retried_as"] == retry["id"]
    failed = (await ground.read(answer["links"]["items"], state="failed"))["data"]
    kept = await ground.database.fetch(
        """
        SELECT mail.id, mail.own, content.body FROM scheduler.bulk_mail AS mail
        LEFT JOIN scheduler.bulk_content AS content ON content.id = mail.content AND content.lane = mail.lane
        JOIN scheduler.batch ON batch.lane = mail.lane WHERE batch.id = $1 ORDER BY mail.number
        """,
        UUID(retry["id"]),
    )
    told = [json.loads(row["own"]) | json.loads(row["body"] or "{}") for row in kept]
    assert [each["retry_of"] for each in told] == [item["id"] for item in failed]
    assert {each["batch_id"] for each in told} == {retry["id"]}
    assert told[1]["id"] == str(kept[1]["id"])
    await ground.settle(retry["id"], "sent", 2)
    await ground.look()
    assert (await ground.do(retry["id"], "retry", expect=409))["type"] == "/problems/nothing-to-retry"


async def test_batches_are_listed_newest_first_and_only_to_their_account(ground: Ground) -> None:
    ids = [(await ground.upload(lines(mail(number))))["id"] for number in range(3)]
    page = await ground.read("/v1/batches", limit=2)
    assert [batch["id"] for batch in page["data"]] == ids[:0:-1]
    assert [batch["id"] for batch in (await ground.read("/v1/batches", after=page["next"]))["data"]] == ids[:1]
    other = await ground.create_key("another")
    for path in (f"/v1/batches/{ids[0]}", f"/v1/batches/{ids[0]}/items", f"/v1/batches/{ids[0]}/events"):
        assert (await ground.client.get(path, headers=other)).status_code == 404
    assert (await ground.client.get("/v1/batches", headers=other)).json() == {"data": []}
    assert (await ground.client.post(f"/v1/batches/{ids[0]}/cancel", headers=other)).status_code == 404


async def test_a_page_watches_with_a_ticket_and_is_sent_away_once_it_knows_the_end(ground: Ground) -> None:
    answer = await ground.upload(lines(mail(1)))
    await ground.settle(answer["id"], "sent", 1)
    await ground.look()
    digest = digest_key(ground.key["Authorization"].removeprefix("Bearer "))
    ticket, _ = TicketOffice(MASTER_SECRET).issue(digest, ApiScope.EMAILS_READ)
    events = answer["links"]["events"]
    stream = await ground.client.get(events, params={"ticket": ticket})
    assert stream.headers["content-type"].startswith("text/event-stream")
    fields = dict(line.split(": ", 1) for line in stream.text.splitlines() if ": " in line)
    assert (fields["event"], json.loads(fields["data"])["percent"]) == ("batch.finished", 100.0)
    again = {"ticket": ticket, "last_event_id": fields["id"]}
    assert (await ground.client.get(events, params=again)).status_code == 204
    refused = await ground.client.get(events, params={"ticket": ticket + "x"})
    assert (refused.status_code, refused.json()["type"]) == (401, "/problems/ticket-invalid")


async def test_old_batches_go_with_their_problems(ground: Ground) -> None:
    first, second = [(await ground.upload(lines(mail(1), {}, {})))["id"] for _ in range(2)]
    store, kept = BatchLookStore(ground.database), timedelta(days=30)
    await ground.database.fetch(
        "UPDATE scheduler.batch SET told_at = now() - interval '31 days' WHERE id = $1", UUID(first)
    )
    assert await store.delete_old(kept, 100) == 0
    assert await store.delete_problems(kept, 100) == 2
    assert await store.delete_old(kept, 100) == 1
    assert [batch["id"] for batch in (await ground.read("/v1/batches"))["data"]] == [second]
