"""The API of tasks on a real PostgreSQL: `/api/tasks.*`, `/v1/tasks`, `/v1/jobs`, `/v1/runs`."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.scheduler.api import create_api
from services.scheduler.runs.store import RunStore
from services.scheduler.settings import ApiSettings
from shared.access import AccessStore, ApiScope
from shared.database import Database, text

# As documented, byte for byte.
CREATE = (
    rb'{"name": "Policy Change Email To Users", "job_name": "send_email", "recurring_interval": "ONE_OFF", '
    rb'"recurring_details": "{\"day_of_month\": \"2,4,5,8\", \"day_of_week\": \"1\", \"month_of_year\": \"*\", '
    rb'\"minute\": \"*\", \"hour\": \"*\"}"}'
)
UPDATE = (
    b'{"id": 1, "job_name": "send_email", "recurring_interval": "EVERY_QUARTER", "recurring_details": '
    b'{"month_of_year": "2,4,5,8", "day_of_week": "*", "day_of_month": "1", "minute": "*", "hour": "*"}}'
)
# What `make up` sets, so that the documented payload works there.
DEFAULTS = {"send_email": {"from": "no-reply@example.com", "to": "you@example.com", "subject": "S", "text": "T"}}
MAIL = {"from": "no-reply@example.com", "to": "bob@example.org", "subject": "Hello", "text": "In confidence"}
HOURLY = {"job_name": "send_email", "args": MAIL, "recurring_interval": "EVERY_HOUR"}


@dataclass(frozen=True)
class Account:
    """Requests of one account's key."""

    client: httpx.AsyncClient
    database: Database
    secret: str

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.secret}", **options.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **options)

    async def command(self, name: str, body: Any) -> Any:
        """The data of a command that succeeds."""
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        answer = await self.ask("POST", f"/api/tasks.{name}", **sent)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        envelope = answer.json()
        assert (list(envelope), envelope["error"], envelope["success"]) == (["data", "error", "success"], None, True)
        return envelope["data"]

    async def create(self, **fields: Any) -> Any:
        """A task that was made."""
        answer = await self.ask("POST", "/v1/tasks", json={"name": uuid4().hex, **HOURLY, **fields})
        assert answer.status_code == 201, answer.text
        assert answer.headers["location"] == f"/v1/tasks/{answer.json()['id']}"
        return answer.json()

    async def set(self, task: Any, assignment: str) -> None:
        """Have time pass, or the engine act."""
        await self.database.fetch(f"UPDATE scheduler.task SET {assignment} WHERE id = $1", task["id"])


class World:
    """The API, and accounts known to it."""

    def __init__(self, client: httpx.AsyncClient, database: Database) -> None:
        self._client = client
        self._database = database

    async def open(self, name: str = "", *scopes: ApiScope, **options: Any) -> Account:
        """A key of an account, by default one that administers the tasks of an account of its own."""
        account = name or f"a-{uuid4().hex[:8]}"
        await self._database.fetch("INSERT INTO access.accounts (name) VALUES ($1) ON CONFLICT DO NOTHING", account)
        rights = {"scopes": scopes or [ApiScope.TASKS_ADMIN], "senders": ["*@example.com"], **options}
        secret, _ = await AccessStore(self._database).create_key(account, "back office", **rights)
        return Account(self._client, self._database, secret)


@pytest.fixture
async def world(module_database_url: str) -> AsyncIterator[World]:
    """An API of this test's own; tasks of the tests before it are there."""
    app = create_api(ApiSettings(database_url=module_database_url, job_defaults=DEFAULTS))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    database = Database(module_database_url, pool_size=1)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield World(client, database)
    await database.close()


@pytest.fixture
async def shop(world: World) -> Account:
    return await world.open()


def read_times(texts: list[str]) -> list[datetime]:
    return [datetime.fromisoformat(each) for each in texts]


def list_midnights(after: str, count: int, wanted: Any) -> list[datetime]:
    """Reckoned day by day, by nobody else's rules."""
    day = datetime.fromisoformat(after).replace(hour=0, minute=0, second=0, microsecond=0)
    found: list[datetime] = []
    while len(found) < count:
        day += timedelta(days=1)
        if wanted(day):
            found.append(day)
    return found


async def test_the_documented_payloads_are_made_changed_and_due_as_documented(world: World) -> None:
    # The first test, on a database without tasks: the documented id is 1.
    shop = await world.open()
    made = await shop.command("create", CREATE)
    details = {"minute": "*", "hour": "*", "day_of_month": "2,4,5,8", "month_of_year": "*", "day_of_week": "1"}
    assert (made["id"], made["name"], made["status"]) == (1, "Policy Change Email To Users", "CREATED")
    assert (made["job_name"], made["recurring_interval"]) == ("send_email", "ONE_OFF")
    assert made["recurring_details"] == details
    schedule = made["schedule"]
    assert (schedule["cron"], schedule["timezone"], schedule["day_fields"]) == ("* * 2,4,5,8 * 1", "UTC", "both")
    assert made["creator"]["name"] == "back office"
    due = read_times(made["upcoming"])
    if not made["created_at"].startswith(made["next_due_at"][:10]):  # on such a Monday the next minute is due
        assert due == list_midnights(made["created_at"], 1, lambda day: day.day in (2, 4, 5, 8) and day.weekday() == 0)
    assert [made["next_due_at"]] == made["upcoming"]

    changed = await shop.command("update", UPDATE)
    assert (changed["id"], changed["name"], changed["created_at"]) == (1, made["name"], made["created_at"])
    assert changed["recurring_interval"] == "EVERY_QUARTER"
    assert changed["recurring_details"] == {
        **details,
        "month_of_year": "2,4,5,8",
        "day_of_week": "*",
        "day_of_month": "1",
    }
    assert (changed["schedule"]["cron"], changed["schedule"]["day_fields"]) == ("0 0 1 2,4,5,8 *", None)
    quarterly = list_midnights(changed["updated_at"], 5, lambda day: day.day == 1 and day.month in (2, 4, 5, 8))
    assert read_times(changed["upcoming"]) == quarterly
    assert datetime.fromisoformat(changed["next_due_at"]) == quarterly[0]


@pytest.mark.parametrize(
    ("payload", "due"),
    [
        (CREATE, ["2027-01-04"]),
        (UPDATE, ["2027-02-01", "2027-04-01", "2027-05-01", "2027-08-01", "2028-02-01"]),
    ],
)
async def test_a_preview_tells_the_due_times_of_the_documented_schedules(
    shop: Account, payload: bytes, due: list[str]
) -> None:
    schedule = {name: value for name, value in json.loads(payload).items() if name.startswith("recurring")}
    answer = await shop.ask("POST", "/v1/tasks/preview", json={**schedule, "after": "2026-11-28T12:00:00Z"})
    assert answer.status_code == 200
    assert answer.json()["upcoming"] == [f"{day}T00:00:00Z" for day in due]


async def test_both_forms_are_the_same_task(shop: Account) -> None:
    made = await shop.create(timezone="Europe/Berlin", retries=2, backoff_s=5, misfire="skip", overlap="skip")
    path = f"/v1/tasks/{made['id']}"
    assert (await shop.ask("GET", path)).json() == made
    assert await shop.command("info", {"id": made["id"]}) == made
    for url in ("/api/tasks.info", "/api/tasks.info/"):
        assert (await shop.ask("GET", url, params={"id": made["id"]})).json()["data"] == made
    changed = await shop.command("update/", {"id": made["id"], "cron": "0 9 1 * 1", "args": {"subject": "Other"}})
    assert (changed["cron"], changed["recurring_interval"], changed["args"]) == (
        "0 9 1 * 1",
        None,
        {"subject": "Other"},
    )
    assert (changed["schedule"]["day_fields"], changed["retries"]) == ("either", 2)
    assert (await shop.ask("PATCH", path)).status_code == 422
    patched = (await shop.ask("PATCH", path, json={"enabled": False})).json()
    assert (patched["next_due_at"], patched["upcoming"], patched["cron"]) == (None, [], "0 9 1 * 1")
    assert await shop.command("delete", {"id": made["id"]}) == patched
    assert (await shop.ask("DELETE", path)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "slug", "pointers"),
    [
        ("POST", "create", b"{", 400, "malformed-json", []),
        ("POST", "create", b"[]", 422, "invalid-content", [""]),
        ("POST", "create", b"{}", 422, "invalid-content", ["/job_name", "/name"]),
        (
            "POST",
            "create",
            b'{"name": "n", "job_name": "nope", "cron": "@daily"}',
            422,
            "invalid-content",
            ["/job_name"],
        ),
        ("POST", "update", b'{"name": "n"}', 422, "invalid-content", ["/id"]),
        ("POST", "update", b'{"id": 9007199254740993}', 404, "task-not-found", []),
        ("POST", "update", b'{"id": 123456789012345678901234567890}', 422, "invalid-content", ["/id"]),
        ("POST", "info", b'{"id": true}', 422, "invalid-content", ["/id"]),
        ("POST", "delete", b'{"id": 123456789}', 404, "task-not-found", []),
        ("GET", "info?id=x", b"", 422, "invalid-content", ["/query/id"]),
        ("GET", "info", b"", 422, "invalid-content", ["/query/id"]),
        ("GET", "list?after=x", b"", 422, "invalid-content", ["/after"]),
        ("GET", "create", b"", 405, "method-not-allowed", []),
        ("POST", "run", b"{}", 404, "not-found", []),
        ("POST", "create", b"x" * 600_000, 413, "too-large", []),
    ],
)
async def test_what_cannot_be_done_is_told_in_the_envelope(
    shop: Account, method: str, path: str, body: bytes, status: int, slug: str, pointers: list[str]
) -> None:
    answer = await shop.ask(method, f"/api/tasks.{path}", content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    envelope = answer.json()
    assert (envelope["data"], envelope["success"]) == (None, False)
    error = envelope["error"]
    assert (error["type"], error["status"]) == (f"/problems/{slug}", status)
    assert error["request_id"] == answer.headers["x-request-id"]
    assert sorted(each["pointer"] for each in error.get("errors", [])) == pointers


async def test_who_may_not_is_told_in_the_envelope(world: World) -> None:
    reader = await world.open("", ApiScope.EMAILS_READ)
    slow = await world.open(request_rate=0.1)
    await slow.ask("GET", "/api/tasks.list")
    for account, status, slug in (
        (Account(reader.client, reader.database, "mk_wrong"), 401, "not-authenticated"),
        (reader, 403, "scope-missing"),
        (slow, 429, "rate-limited"),
    ):
        answer = await account.ask("GET", "/api/tasks.list")
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, f"/problems/{slug}")
        assert answer.json()["success"] is False
    assert "retry-after" in answer.headers


async def test_a_name_is_taken_once_in_an_account(world: World, shop: Account) -> None:
    first, second = await shop.create(name="Report"), await shop.create(name="Other")
    taken = await shop.ask("POST", "/v1/tasks", json={**HOURLY, "name": " Report "})
    renamed = await shop.ask("PATCH", f"/v1/tasks/{second['id']}", json={"name": "Report"})
    for answer in (taken, renamed):
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/task-exists")
        assert answer.json()["errors"][0]["pointer"] == "/name"
    assert (await shop.ask("PATCH", f"/v1/tasks/{first['id']}", json={"name": "Report"})).status_code == 200
    assert (await (await world.open()).create(name="Report"))["id"] != first["id"]


async def test_tasks_and_runs_of_another_account_do_not_exist(world: World, shop: Account) -> None:
    made = await shop.create()
    path = f"/v1/tasks/{made['id']}"
    run = (await shop.ask("POST", f"{path}/run")).headers["location"]
    other = await world.open()
    answers = [
        await other.ask("GET", path),
        await other.ask("PATCH", path, json={"name": "mine"}),
        await other.ask("DELETE", path),
        await other.ask("POST", f"{path}/run"),
        await other.ask("GET", f"{path}/runs"),
        await other.ask("GET", run),
    ]
    assert {each.status_code for each in answers} == {404}
    assert await other.command("list", {}) == []
    assert (await shop.ask("GET", run)).status_code == 200


async def test_lists_are_walked_page_by_page(shop: Account) -> None:
    ids = [(await shop.create())["id"] for _ in range(5)]
    seen: list[int] = []
    after: str | None = None
    while after is not None or not seen:
        params = {"limit": 2, **({"after": after} if after else {})}
        page = (await shop.ask("GET", "/v1/tasks", params=params)).json()
        seen += [each["id"] for each in page["data"]]
        after = page["next"]
    assert seen == ids
    first = await shop.ask("GET", "/api/tasks.list?limit=3")
    link = first.headers["link"]
    assert link.endswith('; rel="next"')
    second = await shop.ask("GET", link[1:].partition(">")[0])
    assert "link" not in second.headers
    assert [each["id"] for each in [*first.json()["data"], *second.json()["data"]]] == ids
    assert [each["id"] for each in await shop.command("list", {"limit": 2})] == ids[:2]


async def test_a_task_that_ran_once_is_armed_anew_by_an_update(shop: Account) -> None:
    soon = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    made = await shop.create(recurring_interval=None, run_at=soon)
    await shop.set(made, "next_due_at = NULL, status = 'SUCCEEDED'")
    assert (await shop.command("info", {"id": made["id"]}))["upcoming"] == []
    armed = await shop.command("update", {"id": made["id"], "args": MAIL})
    assert (armed["status"], armed["next_due_at"]) == ("SUCCEEDED", made["next_due_at"])


async def test_an_edit_never_fires_what_was_missed(shop: Account) -> None:
    made = await shop.create()
    changes: dict[str, Any]
    for changes in ({"timezone": "Asia/Kolkata"}, {"enabled": True}, {"cron": "* * * * *"}):
        await shop.set(
            made, f"next_due_at = now() - interval '1 day', enabled = {str('enabled' not in changes).lower()}"
        )
        changed = await shop.command("update", {"id": made["id"], **changes})
        assert datetime.fromisoformat(changed["next_due_at"]) > datetime.now(UTC) - timedelta(seconds=5)
    await shop.set(made, "next_due_at = now() - interval '1 second'")
    renamed = await shop.command("update", {"id": made["id"], "args": {"subject": "New"}})
    due_now = datetime.fromisoformat(renamed["next_due_at"])
    assert due_now < datetime.now(UTC), "a change of arguments does not cost the run that is due in this moment"


async def test_edits_at_the_same_moment_all_count(shop: Account) -> None:
    made = await shop.create()
    edits = {"retries": 7, "backoff_s": 9, "misfire": "skip", "overlap": "skip"}
    await asyncio.gather(*(shop.command("update", {"id": made["id"], name: value}) for name, value in edits.items()))
    assert (await shop.command("info", {"id": made["id"]})).items() >= edits.items()


async def test_runs_are_asked_for_looked_up_and_outlive_their_task(shop: Account) -> None:
    made = await shop.create(enabled=False)
    path = f"/v1/tasks/{made['id']}"
    ids = []
    for _ in range(3):
        accepted = await shop.ask("POST", f"{path}/run")
        assert accepted.status_code == 202
        assert accepted.headers["location"] == f"/v1/runs/{accepted.json()['run_id']}"
        ids.append(accepted.json()["run_id"])
    run = (await shop.ask("GET", f"/v1/runs/{ids[0]}")).json()
    assert (run["task_id"], run["name"], run["by_hand"], run["status"]) == (made["id"], made["name"], True, "PENDING")
    await shop.command("delete", {"id": made["id"]})
    first = (await shop.ask("GET", f"{path}/runs", params={"limit": 2})).json()
    rest = (await shop.ask("GET", f"{path}/runs", params={"limit": 2, "after": first["next"]})).json()
    assert [each["id"] for each in [*first["data"], *rest["data"]]] == ids[::-1], "newest first"
    assert rest["next"] is None
    assert (await shop.ask("GET", "/v1/tasks/1/runs", params={"after": first["next"]})).status_code == 422
    assert (await shop.ask("GET", f"/v1/runs/{uuid4()}")).json()["type"] == "/problems/run-not-found"


async def test_a_run_that_is_made_while_its_task_is_deleted_ends_with_it(shop: Account) -> None:
    made = await shop.create()
    lock = text("SELECT FROM scheduler.task WHERE id = :task FOR UPDATE")
    fire = text(
        "INSERT INTO scheduler.occurrence"
        " (id, account, task_id, name, job_name, args, scheduled_for, state, max_attempts, backoff_s)"
        " SELECT gen_random_uuid(), account, id, name, job_name, args, now(), 'pending', 1, 1"
        " FROM scheduler.task WHERE id = :task"
    )
    async with shop.database.transaction() as firing:
        await firing.execute(lock, {"task": made["id"]})
        deleting = asyncio.create_task(shop.command("delete", {"id": made["id"]}))
        await asyncio.sleep(0.3)  # it waits for the lock by now
        await firing.execute(fire, {"task": made["id"]})
    assert (await deleting)["id"] == made["id"]
    runs = (await shop.ask("GET", f"/v1/tasks/{made['id']}/runs")).json()["data"]
    assert [(each["status"], each["error"]["class"]) for each in runs] == [("SKIPPED", "TaskDeleted")]


async def test_a_task_that_is_not_to_overlap_is_not_run_beside_itself(shop: Account) -> None:
    made = await shop.create(overlap="skip")
    assert (await shop.ask("POST", f"/v1/tasks/{made['id']}/run")).status_code == 202
    refused = await shop.ask("POST", f"/v1/tasks/{made['id']}/run")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/task-running")


async def test_jobs_are_listed_and_run_on_demand(shop: Account) -> None:
    jobs = {each["name"]: each for each in (await shop.ask("GET", "/v1/jobs")).json()["data"]}
    assert {"purge_history", "send_email"} <= jobs.keys()
    assert jobs["send_email"]["defaults"] == ["from", "subject", "text", "to"]
    assert jobs["send_email"]["args_schema"]["properties"]["subject"]["type"] == "string"
    accepted = await shop.ask("POST", "/v1/jobs/send_email/run", json={"args": MAIL})
    assert accepted.status_code == 202
    run = (await shop.ask("GET", accepted.headers["location"])).json()
    assert (run["job_name"], run["task_id"], run["by_hand"]) == ("send_email", None, True)
    for path, body, status, slug in (
        ("nope", {}, 404, "job-not-found"),
        ("send_email", {"args": {"to": "x"}}, 422, "invalid-content"),
        ("send_email", {"args": {**MAIL, "from": "ann@other.example"}}, 403, "sender-not-allowed"),
    ):
        answer = await shop.ask("POST", f"/v1/jobs/{path}/run", json=body)
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")


async def test_a_run_that_is_asked_for_again_with_its_key_is_the_same_run(world: World, shop: Account) -> None:
    made = await shop.create(overlap="skip")

    async def run(path: str, name: str, account: Account = shop, **body: Any) -> httpx.Response:
        return await account.ask("POST", f"/v1/{path}/run", headers={"Idempotency-Key": name}, json=body)

    task = f"tasks/{made['id']}"
    first, again = await run(task, "a"), await run(task, '"a"')
    assert (first.status_code, first.json()["run_id"]) == (again.status_code, again.json()["run_id"])
    assert (await run(task, "b")).json()["type"] == "/problems/task-running"
    jobs = [await run("jobs/send_email", "a", args=MAIL) for _ in range(2)]
    assert len({each.json()["run_id"] for each in [*jobs, first]}) == 2
    other = await run("jobs/send_email", "a", await world.open(), args=MAIL)
    assert other.json()["run_id"] != jobs[0].json()["run_id"]
    reused = await run("jobs/send_email", "a", args={**MAIL, "subject": "Other"})
    assert (reused.status_code, reused.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert (await run(task, '"not closed')).json()["type"] == "/problems/malformed-idempotency-key"


async def test_a_test_key_makes_test_tasks_and_touches_no_real_one(world: World) -> None:
    name = f"a-{uuid4().hex[:8]}"
    real, test = await world.open(name), await world.open(name, test=True)
    simulated, earnest = await test.create(), await real.create()
    assert (simulated["test"], earnest["test"]) == (True, False)
    path = f"/v1/tasks/{earnest['id']}"
    for answer in (
        await test.ask("PATCH", path, json={"name": "mine"}),
        await test.ask("DELETE", path),
        await test.ask("POST", f"{path}/run"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/test-key")
    changed = await real.ask("PATCH", f"/v1/tasks/{simulated['id']}", json={"retries": 1})
    assert changed.json()["test"] is True


async def test_a_test_keys_purge_leaves_the_history_of_real_tasks(world: World) -> None:
    name = f"a-{uuid4().hex[:8]}"
    for account in (await world.open(name), await world.open(name, test=True)):
        task = await account.create()
        await account.ask("POST", f"/v1/tasks/{task['id']}/run")
    await account.database.fetch("UPDATE scheduler.occurrence SET state = 'failed', finished_at = '2026-01-01'")
    store = RunStore(account.database)
    assert await store.purge(name, timedelta(days=1), 10, test_only=True) == 1
    assert await store.purge(name, timedelta(days=1), 10, test_only=False) == 1


async def test_arguments_reach_no_log(shop: Account, capfd: pytest.CaptureFixture[str]) -> None:
    made = await shop.create()
    await shop.ask("POST", "/v1/tasks", json={**HOURLY, "name": "n", "args": {**MAIL, "to": "In confidence"}})
    await shop.ask("POST", f"/v1/tasks/{made['id']}/run")
    written = capfd.readouterr()
    assert "In confidence" not in written.out + written.err
    assert "bob@example.org" not in written.out + written.err


async def test_with_postgresql_away_commands_are_refused_in_the_envelope() -> None:
    app = create_api(ApiSettings(database_url="postgresql://nobody@127.0.0.1:1/none"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        secret = f"mk_{'x' * 43}"
        answer = await client.get("/api/tasks.list", headers={"Authorization": f"Bearer {secret}"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "/problems/unavailable")
    assert (answer.json()["success"], answer.headers["retry-after"]) == (False, "5")
