"""The two commands a newcomer types do what README.md promises."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email import message_from_bytes, policy
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deploy.local.ports import Ports, is_free
from deploy.local.processes import list_ports
from deploy.local.settings import REPOSITORY, StackSettings, read_environment
from tests.e2e.from_celery import follow_the_example
from tests.e2e.readme import read_the_clients_page, sit_down, take_the_tour
from tests.support.leaks import find_leaks, speak_in_confidence

pytestmark = pytest.mark.timeout(300)


def find_offset() -> int:
    """An offset at which every port of a stack is free, far from where a developer's own stack may be.

    All of them lie below the ports that the kernel gives to anybody (32768 and above), who may be faster.
    """
    offsets = list(range(2000, 13600, 100))
    first = os.getpid() % len(offsets)
    for offset in offsets[first:] + offsets[:first]:
        if all(is_free(port) for _, port in list_ports(StackSettings(), Ports.from_offset(offset))):
            return offset
    raise AssertionError("no room for a stack")


class Checkout:
    """The commands, on a data directory and ports of the test's own."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        clean = {name: value for name, value in read_environment().items() if not name.startswith("MILENA_")}
        self.offset = find_offset()
        own = {"MILENA_DATA_DIR": str(data_dir), "MILENA_PORT_OFFSET": str(self.offset), "MILENA_SENDERS": "2"}
        self.env = {**clean, **own}

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "deploy.local", *arguments],
            env={**self.env, **env},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def read_stack(self) -> dict[str, Any]:
        """Read stack.json."""
        content: dict[str, Any] = json.loads((self.data_dir / "stack.json").read_text())
        return content

    def clear_away(self) -> None:
        """Stop what a failed test has left running."""
        if self.find_processes():
            self.run("stop")

    def find_processes(self) -> list[str]:
        """The command lines of every process that belongs to this stack."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ", "status"]):
            words = [*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()]
            mine = any(str(self.data_dir) in word for word in words)
            if mine and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.info["cmdline"] or []))
        return found


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    mine = Checkout(tmp_path / "data")
    yield mine
    mine.clear_away()


def test_stack_starts_sends_a_mail_keeps_everything_over_a_restart_and_ends_with_ctrl_c(
    checkout: Checkout, tmp_path: Path
) -> None:
    hang_up_while_it_starts(checkout)  # what it leaves behind is in nobody's way
    started = checkout.run("start")
    assert started.returncode == 0, started.stdout + started.stderr
    assert "the mail is sent" in started.stdout
    stack = checkout.read_stack()
    for name in ("stack.json", "api-environment.json"):
        assert stat.S_IMODE((checkout.data_dir / name).stat().st_mode) == 0o600
    values = json.loads((checkout.data_dir / "api-environment.json").read_text())["values"]
    assert {each["key"]: each["value"] for each in values} == {name: stack[name] for name in ("base_url", "api_key")}

    [path] = Path(stack["mail_dir"]).iterdir()
    mail = message_from_bytes(path.read_bytes(), policy=policy.default)
    assert mail["From"] == stack["from_address"]
    assert {part.get_content_type() for part in mail.walk()} >= {"text/plain", "text/html"}
    assert httpx.get(f"{stack['mail_url']}mails.json").json()["mails"][0]["subject"] == mail["Subject"]

    for process in stack["processes"]:
        assert psutil.pid_exists(process["pid"]), process
        assert httpx.get(f"http://127.0.0.1:{process['port']}/readyz").status_code == 200, process
    names = [process["name"] for process in stack["processes"]]
    assert names[:4] == ["gateway-api", "scheduler-api", "callback-api", "sender-api"]
    workers = {"gateway-worker", "scheduler-worker", "scheduler-jobs", "callback-worker", "sender-0", "sender-1"}
    assert {"gateway-smtp", *workers} <= set(names)
    assert checkout.run("status").returncode == 0
    confidences = speak_in_confidence(stack)
    mails = len(list(Path(stack["mail_dir"]).iterdir()))
    assert mails == 3, "the first one and two that are for somebody who may be written to"
    reconciled = checkout.run("run", "--", "services.gateway", "reconcile")
    assert reconciled.returncode == 0, reconciled.stdout + reconciled.stderr
    assert "everything adds up" in reconciled.stdout

    assert checkout.run("stop").stdout == "stopped\n"
    assert checkout.find_processes() == []
    assert stack["api_key"] in started.stdout, "shown on the terminal"
    assert find_leaks(checkout.data_dir, confidences) == []
    assert checkout.run("status").returncode == 1

    goes_on_where_it_was(
        checkout, stack, first_id=started.stdout.partition("accepted as ")[2].split()[0], folder=tmp_path
    )


def goes_on_where_it_was(checkout: Checkout, stack: dict[str, Any], *, first_id: str, folder: Path) -> None:
    """Started again, in the foreground: nothing is lost, the docs are right, and Ctrl-C stops all of it."""
    mails = len(list(Path(stack["mail_dir"]).iterdir()))
    began = time.monotonic()
    with stay_up_until_ctrl_c(checkout):
        assert time.monotonic() - began < 60, "25 s are promised, on a machine with nothing else to do"
        after = checkout.read_stack()
        assert (after["api_key"], after["webhook_secret"]) == (stack["api_key"], stack["webhook_secret"])
        headers = {"Authorization": f"Bearer {after['api_key']}"}
        answer = httpx.get(f"{after['base_url']}/v1/emails/{first_id}", headers=headers)
        assert answer.json()["status"] == "sent"
        assert len(list(Path(after["mail_dir"]).iterdir())) == mails + 1
        second = checkout.run("up")
        assert second.returncode == 1
        assert "already running" in second.stderr
        type_what_the_docs_say(after, checkout.data_dir, folder)
        see_a_killed_process_come_back(checkout)
    assert checkout.find_processes() == []


@contextmanager
def stay_up_until_ctrl_c(checkout: Checkout) -> Iterator[None]:
    """`make up`, with everything ready inside."""
    command = [sys.executable, "-m", "deploy.local", "up"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=checkout.env, cwd=REPOSITORY, **pipes) as running:
        assert running.stdout is not None
        try:
            lines = list(takewhile(lambda line: "Ctrl-C stops everything" not in line, running.stdout))
            assert "the mail is sent\n" in lines, lines
            yield
            running.send_signal(signal.SIGINT)
            rest = running.stdout.read()
        finally:
            running.terminate()  # after a failure: otherwise it has ended
    assert running.returncode == 0, rest
    assert "Traceback" not in rest


def type_what_the_docs_say(stack: dict[str, Any], data_dir: Path, folder: Path) -> None:
    """Here, because a stack is running: README.md, docs/client.md and docs/from-celery.md, command by command."""
    reader = sit_down(stack, data_dir, folder / "reader")
    with ThreadPoolExecutor(2) as threads:
        example = threads.submit(follow_the_example, stack, data_dir, folder / "django")
        take_the_tour(reader)
        read_the_clients_page(reader)
        example.result()


def see_a_killed_process_come_back(checkout: Checkout) -> None:
    [killed] = find_pids(checkout, "sender-0")
    os.kill(killed, signal.SIGKILL)
    time.sleep(1.5)
    [back] = find_pids(checkout, "sender-0")
    assert back != killed


def find_pids(checkout: Checkout, name: str) -> list[int]:
    return [each["pid"] for each in checkout.read_stack()["processes"] if each["name"] == name]


def hang_up_while_it_starts(checkout: Checkout) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and so it would be in the child
    command = [sys.executable, "-m", "deploy.local", "up"]
    with subprocess.Popen(command, env=checkout.env, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        while not running.stdout.readline().startswith("kafka"):
            assert running.poll() is None
        running.send_signal(signal.SIGHUP)
        rest = running.stdout.read()
    assert running.returncode == 0
    assert "all data is kept" in rest
    assert checkout.find_processes() == []


def test_busy_port_is_named_with_the_variable_that_moves_it(checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", 8000 + checkout.offset)):
        refused = checkout.run("up")
    assert refused.returncode == 1
    assert f"{8000 + checkout.offset} (for HTTP)" in refused.stderr
    assert "MILENA_PORT_OFFSET" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_start_in_the_background_says_why_it_failed(checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", 8000 + checkout.offset)):
        refused = checkout.run("start")
    assert refused.returncode == 1
    assert f"{8000 + checkout.offset} (for HTTP)" in refused.stderr
