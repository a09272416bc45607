"""The supervisor starts what ended again, and leaves nothing behind."""

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from deploy.local.output import Output
from deploy.local.supervisor import Command, Supervisor

# Starts a child of its own, says both process ids, and stays.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("family", os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


def command(name: str, source: str) -> Command:
    return Command(name, (sys.executable, "-c", source), dict(os.environ), 0, Path.cwd())


async def until(happened: Callable[[], bool], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not happened():
            await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def printed() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
async def supervisor(printed: io.StringIO) -> AsyncIterator[Supervisor]:
    started = Supervisor(Output(printed))
    yield started
    await started.stop(grace_s=1)


async def test_killed_process_is_back_within_a_second_and_known_by_its_new_pid(printed: io.StringIO) -> None:
    changes: list[dict[str, int]] = []
    watched: list[Supervisor] = []
    supervisor = Supervisor(Output(printed), lambda: changes.append(watched[0].pids()))
    watched.append(supervisor)
    supervisor.start(command("family", FAMILY))
    await until(lambda: "| family" in printed.getvalue())
    first = supervisor.pids()["family"]
    os.kill(first, signal.SIGKILL)
    await until(lambda: supervisor.pids().get("family", first) != first, timeout_s=1.5)
    await supervisor.stop(grace_s=5)
    assert [list(change) for change in changes] == [["family"], ["family"]]
    assert "ended (SIGKILL); starting it again in 0.5 s" in printed.getvalue()


async def test_lines_carry_the_name_of_their_process(supervisor: Supervisor, printed: io.StringIO) -> None:
    supervisor.start(command("talker", "print('a' * 200000); print('last', end='', flush=True)"))
    await until(lambda: "last" in printed.getvalue())
    assert all(line.startswith("talker           | ") for line in printed.getvalue().splitlines())


async def test_stop_takes_grandchildren_along(supervisor: Supervisor, printed: io.StringIO) -> None:
    supervisor.start(command("family", FAMILY))
    await until(lambda: "| family" in printed.getvalue())
    pids = [int(word) for word in printed.getvalue().split() if word.isdigit()]
    await supervisor.stop(grace_s=5)
    assert len(pids) == 2
    await until(lambda: not any(map(is_alive, pids)), timeout_s=2)
    assert supervisor.pids() == {}


async def test_process_that_ignores_sigterm_is_killed_after_the_grace(
    supervisor: Supervisor, printed: io.StringIO
) -> None:
    supervisor.start(command("stubborn", STUBBORN))
    await until(lambda: "deaf" in printed.getvalue())
    pid = supervisor.pids()["stubborn"]
    await supervisor.stop(grace_s=0.3)
    assert not is_alive(pid)
    assert "killed after 0 s: stubborn" in printed.getvalue()


async def test_process_that_keeps_ending_is_given_up_with_its_last_words(supervisor: Supervisor) -> None:
    supervisor.start(command("short", "print('no disk'); raise SystemExit(3)"))
    await until(lambda: supervisor.find_failure("short") is not None, timeout_s=20)
    assert supervisor.find_failure("short") == "keeps ending (exit code 3): no disk"


async def test_process_that_refuses_its_settings_is_given_up_at_once(supervisor: Supervisor) -> None:
    supervisor.start(command("strict", "print('MILENA_SMTP_TLS: is none of three'); raise SystemExit(2)"))
    supervisor.start(command("fine", "import time; time.sleep(600)"))
    await until(lambda: supervisor.find_failure("strict") is not None, timeout_s=2)
    assert supervisor.find_failure("strict") == "MILENA_SMTP_TLS: is none of three"
    assert supervisor.find_failure("fine") is None


async def test_processes_are_started_again_when_the_terminal_has_gone(tmp_path: Path) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    log = tmp_path / "log"
    supervisor = Supervisor(Output(Gone()))
    supervisor.start(command("short", f"print('here'); open({str(log)!r}, 'a').write('x')"))
    await until(lambda: log.exists() and len(log.read_text()) >= 2)
    await supervisor.stop(grace_s=1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
async def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    log = tmp_path / "pid"
    source = f"""
import asyncio
from pathlib import Path
from tests.integration.test_local_supervisor import FAMILY, command
from deploy.local.output import Output
from deploy.local.supervisor import Supervisor
async def main():
    supervisor = Supervisor(Output(), lambda: Path({str(log)!r}).write_text(str(supervisor.pids()["family"])))
    supervisor.start(command("family", FAMILY))
    await asyncio.sleep(600)
asyncio.run(main())
"""
    owner = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.DEVNULL)
    await until(lambda: log.exists() and log.read_text() != "")
    child = int(log.read_text())
    owner.kill()
    owner.wait()
    await until(lambda: not is_alive(child), timeout_s=3)
