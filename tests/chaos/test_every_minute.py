"""A task that mails every minute, made by curl: it delivers within the next minute, and its history says so."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.local.catcher import Catcher
from shared.access import ApiScope
from tests.support.gateway import mint
from tests.support.services import ServiceRunner
from tests.support.stack import Stack

_PATIENCE_S = 3
MAIL = {"from": "no-reply@example.com", "to": "ann@example.org", "subject": "Every minute", "text": "One more"}
TASK = {"name": "every minute", "job_name": "send_email", "recurring_interval": "EVERY_MINUTE", "args": MAIL}
COMMANDS = (
    ("deploy.local.api",),
    ("services.scheduler", "worker"),
    ("services.scheduler", "jobs"),
    ("services.sender", "worker"),
)


async def curl(secret: str, *arguments: str) -> Any:
    """What curl prints."""
    command = ["curl", "-sS", "-H", f"Authorization: Bearer {secret}", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)


async def test_a_task_that_mails_every_minute_delivers_within_the_next_minute(
    services: ServiceRunner, stack: Stack, mail_catcher: Catcher
) -> None:
    env = {"MILENA_SMTP_HOST": "127.0.0.1", "MILENA_SMTP_PORT": str(mail_catcher.smtp_port)}
    api, *others = [services.start(*command, env=env) for command in COMMANDS]
    await asyncio.gather(*(each.wait_ready(60) for each in (api, *others)))
    caller = await mint(stack.database_url, scopes=[ApiScope.TASKS_ADMIN])

    made = await curl(caller.secret, f"{api.url}/api/tasks.create", "-d", json.dumps(TASK))
    task, now = made["data"], datetime.now(UTC)
    due_at = datetime.fromisoformat(task["next_due_at"])
    assert now < due_at <= now + timedelta(minutes=1)

    deadline = time.monotonic() + (due_at - now).total_seconds() + _PATIENCE_S
    while not mail_catcher.mailbox.numbers() and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    assert datetime.now(UTC) >= due_at
    [number] = mail_catcher.mailbox.numbers()
    kept = mail_catcher.mailbox.read(number)
    assert kept is not None
    assert b"Subject: Every minute" in kept[0]

    runs_url = f"{api.url}/v1/tasks/{task['id']}/runs"
    while (run := (await curl(caller.secret, runs_url))["data"][0])["status"] != "SUCCEEDED":
        assert time.monotonic() < deadline, run
        await asyncio.sleep(0.1)
    assert (datetime.fromisoformat(run["due_at"]), run["attempts"], run["by_hand"]) == (due_at, 1, False)
    shown = await curl(caller.secret, f"{api.url}/api/tasks.info?id={task['id']}")
    assert shown["data"]["status"] == "SUCCEEDED"
    assert datetime.fromisoformat(shown["data"]["next_due_at"]) == due_at + timedelta(minutes=1)
