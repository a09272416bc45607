"""`manage.py milena_import_beat`: rows of a real django_celery_beat become tasks of a real API.

tests/in_django/import_beat.py runs in an environment with Celery, which says itself when it would run each row.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.access import ApiScope
from tests.support.django_environments import FOLDER, prepare_django
from tests.support.gateway import mint
from tests.support.servers import RealServers, run_apart
from tests.support.services import ServiceRunner

pytestmark = pytest.mark.timeout(900)  # the environment is made once

# Rows for which there is no task, and words of the reason.
LEFT_OUT = {
    "interval 90 seconds": "full minutes",
    "interval 10 seconds": "full minutes",
    "interval 250 microseconds": "full minutes",
    "interval 7 minutes": "no cron line has this spacing",
    "interval 5 hours": "no cron line has this spacing",
    "interval 2 days": "no cron line has this spacing",
    "solar": "follows the sun",
    "args are wrong": "Milena refuses it",
    "nameless": "no job does shop.clean",
    "nobody's": "no job does shop.unknown",
}
OVER = {
    "clocked, over": "is over",
    "has run once": "and has",
    "has run once, off": "and has",
    "expired": "has expired",
    "housekeeping": "Celery's own",
}


@dataclass(frozen=True)
class Imported:
    """What the environment has told, and the tasks that there are afterwards."""

    told: dict[str, Any]
    tasks: dict[str, Any]
    client: httpx.Client


@pytest.fixture(scope="module")
def imported(real_servers: RealServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imported]:
    name = real_servers.create_database()
    url = real_servers.postgres().database_url(name)
    runner = ServiceRunner({"MILENA_DATABASE_URL": url}, preloaded=True)
    report = tmp_path_factory.mktemp("beat") / "report.json"
    try:
        api = runner.start("services.scheduler", "api")
        caller = run_apart(mint(url, scopes=(ApiScope.TASKS_ADMIN,)))
        run_apart(api.wait_ready(60))
        ended = import_rows(report, api.url, caller.secret)
        with httpx.Client(base_url=api.url, headers=caller.headers) as client:
            tasks = {task["name"]: task for task in client.get("/v1/tasks", params={"limit": 100}).json()["data"]}
            assert caller.secret not in ended
            yield Imported(json.loads(report.read_text()), tasks, client)
    finally:
        runner.stop_all()
        real_servers.drop_database(name)


def import_rows(report: Path, url: str, key: str) -> str:
    ended = prepare_django("beat").run(
        str(FOLDER / "import_beat.py"),
        str(report),
        MILENA_URL=url,
        MILENA_API_KEY=key,
        MILENA_DATA_DIR=str(report.parent),
        PYTHONTZPATH="",  # the zones of the package there too: a system's may be older
    )
    assert report.exists(), ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_fifty_rows_are_due_when_celery_would_run_them(imported: Imported) -> None:
    due = {name: times for name, times in imported.told["due"].items() if name not in LEFT_OUT}
    assert len(due) >= 50
    both = [name for name in due if (imported.tasks[name]["recurring_details"] or {}).get("day_of_week", "*") != "*"]
    assert len(both) == 6
    for name, times in due.items():
        task = imported.tasks[name]
        timing = ("recurring_interval", "recurring_details", "cron", "timezone", "run_at", "start_at", "end_at")
        asked = {"after": imported.told["after"], "count": 10, **{each: task[each] for each in timing}}
        answer = imported.client.post("/v1/tasks/preview", json=asked)
        assert answer.status_code == 200, (name, answer.text)
        found = [datetime.fromisoformat(each) for each in answer.json()["upcoming"]]
        assert found == [datetime.fromisoformat(each) for each in times], (name, task["schedule"])


def test_what_is_no_task_is_left_out_with_its_reason(imported: Imported) -> None:
    first = imported.told["first"]
    lines = first["out"].splitlines()
    told = {name: [line for line in lines if line.startswith(f"left out: {name}: ")] for name in LEFT_OUT}
    for name, reason in LEFT_OUT.items():
        assert len(told[name]) == 1, (name, first["out"])
        assert reason in told[name][0]
    assert lines[-1].endswith(f", {len(LEFT_OUT)} left out")
    for name, reason in OVER.items():
        assert any(line.startswith(f"skipped: {name}: ") and reason in line for line in lines), name
    assert first["error"].startswith(f"{len(LEFT_OUT)} of these rows are no tasks")


def test_what_a_row_says_beside_its_time_is_kept_or_said(imported: Imported) -> None:
    tasks, out = imported.tasks, imported.told["first"]["out"]
    named = tasks["named"]
    assert (named["job_name"], named["enabled"]) == ("send_email", True)
    assert named["args"] == {"from": "a@example.com", "to": "ann@example.org", "subject": "Hello", "text": "Hi"}
    assert tasks["clocked"]["run_at"] == "2046-05-04T03:02:01Z"
    once = tasks["once, both days"]
    assert (once["recurring_interval"], once["schedule"]["day_fields"]) == ("ONE_OFF", "both")
    assert tasks["bounded"]["end_at"] == "2041-01-01T00:00:00Z"
    assert "\n    not kept: queue, priority, expire_seconds\n" in out


def test_a_dry_run_says_the_same_and_does_nothing(imported: Imported) -> None:
    dry, first = imported.told["dry"], imported.told["first"]
    assert "would create: named: " in dry["out"]
    assert "created: named: " in first["out"]  # so it was not there yet
    assert first["out"].count("\ncreated: ") + 1 == dry["out"].count("would create: ")


def test_a_second_run_leaves_tasks_as_they_are_unless_told_to_update(imported: Imported) -> None:
    again, updated = imported.told["again"]["out"], imported.told["updated"]["out"]
    assert "skipped: named: there is this task" in again
    assert "skipped: off: another task has this name (--update makes it like its row)" in again
    assert "positional arguments need names" in again  # shop.clean has a job now
    assert again.splitlines()[-1].startswith("0 created, 0 updated, ")
    # What is like its row is not touched: a task that has run once would run again.
    assert updated.splitlines()[-1].startswith("1 created, 2 updated, ")
    assert imported.tasks["off"]["enabled"] is True
    assert imported.tasks["bounded"]["start_at"] is None
    assert imported.tasks["nobody's"]["job_name"] == "external:shop.unknown"
