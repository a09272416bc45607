"""`reconcile` finds what does not add up, and `rebuild` makes the read model again, on real servers."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from deploy.local.settings import REPOSITORY
from services.gateway.proving import _rebuild, _reconcile
from services.gateway.rebuilding import Summary
from services.gateway.reconciling import Report
from services.gateway.settings import ProvingSettings
from shared.database import Database
from tests.support.gateway import serve_gateway
from tests.support.servers import RealServers
from tests.support.services import _clean_environment
from tests.support.stack import Stack
from tests.support.states import JUNK, put, put_aborted, put_refused, tell_stories

LIMIT = 1024 * 1024


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


async def reconcile(stack: Stack, since: datetime | None = None, pending_after_s: float = 30) -> Report:
    report, _ = await _reconcile(settings_of(stack), since, timedelta(seconds=pending_after_s), timedelta(seconds=15))
    return report


async def rebuild(stack: Stack) -> Summary:
    return await _rebuild(settings_of(stack), lambda _: None)


async def dump(database: Database) -> list[Any]:
    """All that two equal read models have in common: everything but how often a row was written."""
    emails = await database.fetch("SELECT to_jsonb(e) - 'version' AS row FROM gateway.emails e ORDER BY id")
    lines = await database.fetch("SELECT to_jsonb(t) AS row FROM gateway.timeline t ORDER BY email_id, event_id")
    return [row["row"] for row in (*emails, *lines)]


def reasons(report: Report) -> dict[str, str]:
    return {fault.name: fault.reason for fault in report.named}


async def test_every_state_adds_up_and_what_does_not_is_named(running: Stack, database: Database) -> None:
    stories = tell_stories()
    ids = {story.state: story.id for story in reversed(stories)}
    await put(running, [record for story in stories for record in story.records])
    await put_refused(running)
    await put_aborted(running)
    done = run(running, "reconcile", "--since", "1h", "--json")
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
    done = run(running, "reconcile", "--patience", "1s")
    assert done.returncode == 1, done.stdout + done.stderr
    named = {line.split()[1].rstrip(":"): line for line in done.stdout.splitlines() if line.startswith("FAULT")}
    assert named.keys() == found
    assert "no row" in named[ids["sent"]]
    assert "by the records it is failed, in the read model sent" in named[ids["failed"]]
    assert "lacks 2 of 2 events" in named[ids["expired"]]
    assert "cannot be read" in named[ids["partially_sent"]]

    await put(running, JUNK)
    done = run(running, "rebuild")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 mended, 1 added, 0 removed" in done.stdout
    after = await dump(database)
    assert [row for row in after if row in before] == before  # and one more line: of the cancellation in the junk
    assert len(after) == len(before) + 1
    newer = await database.fetch("SELECT version FROM gateway.emails WHERE id = $1", UUID(ids["failed"]))
    assert newer[0]["version"] > version[0]["version"]
    report = await reconcile(running)
    assert report.unanswered == 2  # the junk requests; nobody is there to answer
    assert report.faults == 0
    assert len(reasons(await reconcile(running, pending_after_s=0))) == 3
