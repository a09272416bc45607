"""Tasks fire, are told on `schedule.tick` and run: worker and job runner as processes, on real Kafka and PostgreSQL."""

import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import orjson
import pytest
import pytest_asyncio

from services.scheduler.runs.occurrence import OccurrenceState
from services.scheduler.runs.occurrence_store import JobRun
from services.scheduler.tasks.task import Creator, Misfire, Overlap, TaskStatus
from shared.database import Database
from shared.events import derive_occurrence_id
from tests.support.records import Seen, TopicReader, publish
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.stack import Stack
from tests.support.tasks import EVERY_MINUTE, THIRD_PARTY, Tasks

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def stack(real_servers: RealServers) -> Iterator[Stack]:
    name = real_servers.create_database()
    prefix = real_servers.create_topics()
    yield Stack(real_servers.bootstrap_servers(), prefix, real_servers.postgres().database_url(name))
    real_servers.drop_topics(prefix)
    real_servers.drop_database(name)


@pytest.fixture(scope="module")
def runner(stack: Stack) -> Iterator[ServiceRunner]:
    runner = ServiceRunner(
        {
            **stack.env(),
            "PYTHONPATH": os.pathsep.join([*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(THIRD_PARTY)]),
            "MILENA_JOB_LEASE_S": "2",
            "MILENA_JOB_CONCURRENCY": "8",
            "MILENA_JOB_DRAIN_S": "0.2",
            "MILENA_JOB_DEFAULTS": '{"send_email": {"from": "shop@example.com", "to": "a@example.org"}}',
            "MILENA_RESULT_RETENTION": "20",
        }
    )
    yield runner
    runner.stop_all()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def jobs(runner: ServiceRunner) -> ServiceProcess:
    worker, jobs = (runner.start("services.scheduler", command) for command in ("worker", "jobs"))
    await worker.wait_ready()
    await jobs.wait_ready()
    return jobs


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tasks(stack: Stack, jobs: ServiceProcess) -> AsyncIterator[Tasks]:
    database = Database(stack.database_url)
    yield Tasks(database)
    await database.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader(stack: Stack) -> AsyncIterator[TopicReader]:
    async with TopicReader(stack.bootstrap_servers, stack.topics.tick, stack.topics.requested) as reader:
        yield reader


def list_ticks(reader: TopicReader, task_id: int) -> list[Seen]:
    return [each for each in reader.seen if each.data.get("task_id") == task_id]


async def test_a_task_that_is_due_runs_once_and_is_told_to_everybody(tasks: Tasks, reader: TopicReader) -> None:
    task = await tasks.create("add", "shop.add", {"a": 2, "b": 3}, timing=EVERY_MINUTE)
    assert (task.status, (await tasks.read(task)).next_due_at) == (TaskStatus.CREATED, task.next_due_at)
    due_at = await tasks.make_due(task)
    run, *_ = await tasks.wait_for_end(task)  # a minute may begin at any time
    assert run.id == derive_occurrence_id(task.id, due_at)
    assert (run.state, run.result, run.error) == (OccurrenceState.SUCCEEDED, {"total": 5, "attempt": 1}, None)
    assert run.started_at is not None
    assert run.started_at - due_at < timedelta(seconds=3)
    await reader.wait_for(lambda each: each.data.get("task_id") == task.id)
    tick, *_ = list_ticks(reader, task.id)
    assert tick.key == str(task.id)
    assert tick.headers["ce_type"] == "schedule.tick"
    assert tick.headers["ce_id"] == tick.data["occurrence_id"] == str(run.id)
    assert datetime.fromisoformat(tick.data["due_at"]) == due_at
    assert {name: tick.data[name] for name in ("name", "job_name", "args", "account")} == {
        "name": "add",
        "job_name": "shop.add",
        "args": {"a": 2, "b": 3},
        "account": "default",
    }
    after = await tasks.read(task)
    assert after.status is TaskStatus.SUCCEEDED
    assert after.next_due_at is not None
    assert due_at < after.next_due_at <= due_at + timedelta(minutes=2)
    assert (after.next_due_at.second, after.next_due_at.microsecond) == (0, 0)


async def test_a_plain_function_runs_in_a_thread_and_an_entry_point_may_name_one(tasks: Tasks) -> None:
    plain = await tasks.create_due("plain", "shop.plain")
    named = await tasks.create_due("named", "shop.double", {"a": 21})
    assert (await tasks.wait_for_end(plain))[0].result == "job shop.plain"
    assert (await tasks.wait_for_end(named))[0].result == 42


async def test_send_email_publishes_a_mail_whose_id_is_the_runs(tasks: Tasks, reader: TopicReader) -> None:
    task = await tasks.create_due("mail", "send_email", {"subject": "s", "text": "t", "metadata": {"k": 1}})
    (run,) = await tasks.wait_for_end(task)
    assert run.state is OccurrenceState.SUCCEEDED, run.error
    (mail,) = await reader.wait_for(lambda each: each.topic.endswith("requested"))
    assert mail.key == mail.data["id"] == run.result["email_id"]
    assert mail.data["from"] == "shop@example.com"
    assert (mail.data["api_key_id"], mail.data["metadata"]) == ("key-1", {"k": 1})
    assert datetime.fromisoformat(mail.data["requested_at"]) == run.scheduled_for


async def test_an_external_task_is_told_and_not_run_here(tasks: Tasks, reader: TopicReader) -> None:
    task = await tasks.create_due("external", "external:billing.close", {"month": 3})
    (run,) = await tasks.wait_for_end(task)
    assert (run.state, run.result, run.attempt) == (OccurrenceState.SUCCEEDED, {"external": True}, 0)
    await reader.wait_for(lambda each: each.data.get("job_name") == "external:billing.close")
    assert (await tasks.read(task)).status is TaskStatus.SUCCEEDED


async def test_a_failing_run_is_tried_again_and_then_fails_with_class_and_message(
    tasks: Tasks, jobs: ServiceProcess
) -> None:
    mended = await tasks.create_due("mended", "shop.fail", {"times": 1}, max_attempts=3, backoff_s=0.1)
    hopeless = await tasks.create_due("hopeless", "shop.fail", max_attempts=2, backoff_s=0.1)
    (run,) = await tasks.wait_for_end(mended)
    assert (run.state, run.result, run.attempt, run.failures) == (OccurrenceState.SUCCEEDED, "found", 2, 1)
    (run,) = await tasks.wait_for_end(hopeless)
    assert (run.state, run.attempt, run.failures) == (OccurrenceState.FAILED, 2, 2)
    assert run.error == {"class": "LookupError", "message": "no such customer"}
    assert (await tasks.read(hopeless)).status is TaskStatus.FAILED
    assert "Traceback" in jobs.read_log()


async def test_what_cannot_run_fails_at_once_and_says_why(tasks: Tasks) -> None:
    unknown = await tasks.create_due("unknown", "shop.gone", max_attempts=3)
    unfit = await tasks.create_due("unfit", "shop.add", {"a": "secret", "b": -1}, max_attempts=3)
    (run,) = await tasks.wait_for_end(unknown)
    assert run.state is OccurrenceState.FAILED
    assert run.error is not None
    assert run.error["class"] == "UnknownJob"
    (run,) = await tasks.wait_for_end(unfit)
    assert run.error is not None
    assert run.error["class"] == "InvalidArgs"
    assert run.error["message"].startswith("/a: ")
    assert "/b: " in run.error["message"]
    assert "secret" not in run.error["message"]


async def test_jobs_that_never_end_fail_at_their_limit_and_hold_nobody_up(tasks: Tasks) -> None:
    endless = [
        await tasks.create_due(f"endless {name}", name, {"seconds": 1}, time_limit_s=0.3)
        for name in ("shop.sleep", "shop.hang", "shop.block")
    ]
    for task in endless:
        (run,) = await tasks.wait_for_end(task, timeout_s=3)
        assert run.state is OccurrenceState.FAILED
        assert run.error == {"class": "TimeLimitExceeded", "message": "did not end within 0.3 s"}
    other = await tasks.create_due("other", "shop.plain")
    await tasks.wait_for_end(other)


async def test_a_task_that_is_not_to_overlap_skips_while_it_runs(tasks: Tasks) -> None:
    task = await tasks.create_due("slow", "shop.sleep", {"seconds": 1.5}, overlap=Overlap.SKIP)
    await tasks.wait_for_state(task, OccurrenceState.RUNNING)
    assert (await tasks.read(task)).status is TaskStatus.RUNNING
    await tasks.make_due(task)
    by_hand = await tasks.runs.run_task("default", task.id)
    assert by_hand is not None
    assert by_hand.state is OccurrenceState.SKIPPED
    first, *others = await tasks.wait_for_end(task, 3)
    assert first.state is OccurrenceState.SUCCEEDED
    assert [run.state for run in others] == [OccurrenceState.SKIPPED, OccurrenceState.SKIPPED]
    assert {run.error["class"] for run in others if run.error} == {"Overlap"}
    assert (await tasks.read(task)).status is TaskStatus.SUCCEEDED


async def test_what_was_missed_runs_once_or_not_at_all(tasks: Tasks) -> None:
    hour = timedelta(hours=1)
    catching_up = await tasks.create("catching up", "shop.plain", misfire=Misfire.RUN_ONCE)
    passing_over = await tasks.create("passing over", "shop.plain", misfire=Misfire.SKIP)
    due_at = await tasks.make_due(catching_up, hour)
    await tasks.make_due(passing_over, hour)
    (run,) = await tasks.wait_for_end(catching_up)
    assert (run.state, run.scheduled_for) == (OccurrenceState.SUCCEEDED, due_at)
    (run,) = await tasks.wait_for_end(passing_over)
    assert run.state is OccurrenceState.SKIPPED
    assert run.error is not None
    assert run.error["class"] == "Misfire"
    for task in (catching_up, passing_over):
        after = await tasks.read(task)
        assert after.next_due_at is not None
        assert after.next_due_at > datetime.now(UTC) - timedelta(seconds=5)


async def test_runs_asked_for_by_hand(tasks: Tasks, reader: TopicReader) -> None:
    task = await tasks.create("by hand", "shop.add", {"a": 1})
    asked = await tasks.runs.run_task("default", task.id)
    assert asked is not None
    assert asked.by_hand
    run = await tasks.wait_for_run(asked)
    assert run.result == {"total": 2, "attempt": 1}
    await reader.wait_for(lambda each: each.data.get("task_id") == task.id)
    assert [each.data["occurrence_id"] for each in list_ticks(reader, task.id)] == [str(asked.id)]
    job_run = JobRun(job_name="purge_history", args={"older_than_days": 3000}, creator=Creator())
    run = await tasks.wait_for_run(await tasks.runs.run_job("default", job_run))
    assert (run.task_id, run.result) == (None, {"deleted": 0})
    assert await tasks.runs.run_task("default", 10**9) is None
    assert await tasks.runs.run_task("another", task.id) is None


async def test_junk_foreign_and_repeated_ticks_change_nothing(tasks: Tasks, stack: Stack, jobs: ServiceProcess) -> None:
    task = await tasks.create_due("again", "shop.add", {"a": 1})
    (run,) = await tasks.wait_for_end(task)
    foreign = {
        "occurrence_id": str(uuid4()),
        "task_id": 10**9,
        "name": "x",
        "job_name": "shop.add",
        "due_at": "2030-01-01T00:00:00Z",
    }
    again = {**foreign, "occurrence_id": str(run.id), "task_id": task.id}
    junk = [b"", b"\xff\x00", b"[]", orjson.dumps({"occurrence_id": 3}), b"{" * 5000]
    await publish(stack.bootstrap_servers, stack.topics.tick, *junk, foreign, again, again)
    await publish(stack.bootstrap_servers, stack.topics.tick, b"{}", headers={"ce_type": "somebody.else"})
    second = await tasks.runs.run_task("default", task.id)
    assert second is not None
    await tasks.wait_for_run(second)
    assert [(each.attempt, each.state) for each in await tasks.list_runs(task.id)] == [
        (1, OccurrenceState.SUCCEEDED)
    ] * 2


async def test_deleting_a_task_lets_a_running_run_finish_and_keeps_its_history(tasks: Tasks) -> None:
    task = await tasks.create_due("deleted", "shop.sleep", {"seconds": 1})
    waiting = await tasks.create("deleted, too", "shop.fail", max_attempts=5, backoff_s=600)
    await tasks.make_due(waiting)
    await tasks.wait_for_state(task, OccurrenceState.RUNNING)
    assert await tasks.store.delete("default", task.id) is not None
    (run,) = await tasks.wait_for_end(task)
    assert (run.state, run.name) == (OccurrenceState.SUCCEEDED, "deleted")
    await tasks.wait_for_state(waiting, OccurrenceState.READY)
    await tasks.store.delete("default", waiting.id)
    (run,) = await tasks.wait_for_end(waiting)
    assert run.state is OccurrenceState.FAILED
    assert run.error is not None
    assert run.error["class"] != "TaskDeleted", "it was not tried again, and shows why it failed"


async def test_a_run_whose_process_ends_is_begun_again_and_sees_its_attempt(tasks: Tasks, jobs: ServiceProcess) -> None:
    task = await tasks.create_due("killed", "shop.sleep", {"seconds": 60})
    await tasks.wait_for_state(task, OccurrenceState.RUNNING)
    jobs.kill()
    jobs.restart()
    (run,) = await tasks.wait_for_end(task)
    assert (run.state, run.result, run.attempt) == (OccurrenceState.SUCCEEDED, 2, 2)
    stopped = await tasks.create_due("stopped", "shop.sleep", {"seconds": 60})
    await tasks.wait_for_state(stopped, OccurrenceState.RUNNING)
    jobs.terminate()
    assert await jobs.wait_exit() == 0
    run = await tasks.wait_for_state(stopped, OccurrenceState.READY)
    assert run.error is not None
    assert run.error["class"] == "Interrupted"
