"""Milena's mail backend in a real Django, the oldest and the newest we support, against a real gateway.

tests/in_django runs in an environment of its own; here is looked at what lies in Kafka.
"""

import asyncio
import base64
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path
from typing import Any

import pytest

from shared.events import EmailRequested
from tests.support.django_environments import FOLDER, prepare_django
from tests.support.gateway import Caller, mint, read_requests, serve_gateway
from tests.support.same_mail import describe, read_message, write_event
from tests.support.servers import RealServers, run_apart
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(900)  # the environments are made once
DJANGOS = ("5.2", "newest")


@dataclass(frozen=True)
class Gateway:
    stack: Stack
    url: str
    caller: Caller


@dataclass(frozen=True)
class Run:
    """What one environment has done."""

    ended: subprocess.CompletedProcess[str]
    django: str
    sent: list[dict[str, Any]]
    events: dict[str, EmailRequested]


@pytest.fixture(scope="module")
def gateway(real_servers: RealServers) -> Iterator[Gateway]:
    with serve_gateway(real_servers, "api", "worker") as (stack, (api, _)):
        yield Gateway(stack, api.url, run_apart(mint(stack.database_url)))


@pytest.fixture(scope="module")
def runs(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> dict[str, "Future[Run]"]:
    """Every environment's, side by side."""
    with ThreadPoolExecutor() as threads:
        return {name: threads.submit(run_django, name, gateway, tmp_path_factory.mktemp(name)) for name in DJANGOS}


def run_django(name: str, gateway: Gateway, folder: Path) -> Run:
    report = folder / "report.json"
    ended = prepare_django(name).run(
        str(FOLDER / "run.py"),
        str(report),
        MILENA_URL=gateway.url,
        MILENA_API_KEY=gateway.caller.secret,
        MILENA_DATA_DIR=str(folder),
    )
    assert report.exists(), ended.stdout + ended.stderr
    told = json.loads(report.read_text())
    records = asyncio.run(read_requests(gateway.stack))
    events = {record.key.decode(): EmailRequested.model_validate_json(record.value) for record in records}
    return Run(ended, told["django"], told["sent"], events)


@pytest.fixture(params=DJANGOS)
def run(request: pytest.FixtureRequest, runs: dict[str, "Future[Run]"]) -> Run:
    return runs[request.param].result()


def test_what_djangos_smtp_backend_does_ours_does(run: Run, gateway: Gateway) -> None:
    assert run.ended.returncode == 0, run.ended.stdout + run.ended.stderr
    assert gateway.caller.secret not in run.ended.stdout + run.ended.stderr


def test_every_message_is_the_one_django_itself_would_have_sent(run: Run) -> None:
    assert run.django >= "5.2"
    for each in run.sent:
        event = run.events[each["id"]]
        ours, djangos = describe(write_event(event)), describe(read_message(base64.b64decode(each["message"])))
        if each["case"] == "files":  # every file of ours has a name
            assert djangos["parts"][7][1] is None
            djangos["parts"][7] = ("application/x-thing", "attachment.bin", *djangos["parts"][7][2:])
        assert ours == djangos, each["case"]
        envelope_from = event.envelope_from or event.from_.address
        assert envelope_from == parseaddr(each["from"])[1], each["case"]
        assert len(event.recipients) == len(each["recipients"]), each["case"]


def test_what_was_rolled_back_is_not_in_kafka(run: Run) -> None:
    subjects = Counter(event.subject for event in run.events.values())
    assert subjects["committed"] >= 4
    assert subjects["rolled back"] == 0
    assert "outbox" not in subjects
