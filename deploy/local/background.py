"""A stack in the background: start it, stop it, ask how it is."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil

from deploy.local.children import wait_until
from deploy.local.errors import StackError
from deploy.local.lock import find_holder
from deploy.local.paths import DataPaths
from deploy.local.record import StackRecord, read_record
from deploy.local.settings import REPOSITORY

# What `up` writes to its pipe when everything is there, and before the reason why it cannot be.
READY, FAILED = "\x06", "\x15"
_EXIT_TIMEOUT_S = 10
_STOP_TIMEOUT_S = 150  # 75 s for the services, 20 s each for Kafka and PostgreSQL, and some


def start_in_background(paths: DataPaths, say: Callable[[str], None]) -> None:
    """Start ``up`` on its own, its output in stack.log, and wait until everything is ready.

    Its own lines are passed to ``say`` as they come. Raises StackError, with its reason, when it could not start.
    """
    paths.create()
    reading, writing = os.pipe()
    paths.log.unlink(missing_ok=True)
    paths.log.touch(mode=0o600)
    with paths.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local", "up", "--ready-fd", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            pass_fds=[writing],
            start_new_session=True,
        )
    os.close(writing)
    reason = "the stack did not start."
    with os.fdopen(reading, encoding="utf-8") as lines:
        for line in lines:
            if line.strip() == READY:
                return
            if line.strip() == FAILED:
                reason = lines.read().strip()
                break
            say(line.rstrip("\n"))
    process.wait()
    raise StackError(f"{reason}\n{paths.log} holds its whole output.")


def stop_background(paths: DataPaths) -> bool:
    """Stop the stack on this data directory, wherever it runs; False when there is none."""
    pid = find_holder(paths.lock)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    if not wait_until(lambda: find_holder(paths.lock) is None, timeout_s=_STOP_TIMEOUT_S, step_s=0.1):
        os.kill(pid, signal.SIGKILL)  # its children go with it
        raise StackError(f"the stack did not stop within {_STOP_TIMEOUT_S} s and was killed.")
    wait_until(lambda: _has_ended(pid), timeout_s=_EXIT_TIMEOUT_S, step_s=0.05)
    return True


def _has_ended(pid: int) -> bool:
    """The lock is let go a moment before the process is gone; an unreaped one has ended."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def describe_status(paths: DataPaths) -> tuple[bool, list[str]]:
    """Say whether a stack is running and all of it is ready, and give a line for each process."""
    if find_holder(paths.lock) is None:
        return False, [f"no stack is running on {paths.root}"]
    return asyncio.run(_ask_all(read_record(paths.record)))


async def _ask_all(record: StackRecord) -> tuple[bool, list[str]]:
    from deploy.local.readiness import ask_readiness, open_session

    async with open_session() as session:
        ports = {process.port for process in record.processes}
        asked = (ask_readiness(session, port, record.base_url) for port in ports)
        answers = dict(zip(ports, await asyncio.gather(*asked), strict=True))
    lines = []
    for process in record.processes:
        ready, said = answers[process.port]
        lines.append(f"{process.name:<18} pid {process.pid:<8} port {process.port:<6} {'ready' if ready else said}")
    return all(ready for ready, _ in answers.values()), lines
