"""Our commands as processes forked from one that has loaded their modules already.

A run of the tests starts hundreds of processes, and most of what a start costs is the reading of modules. What is
forked is a process like any other, with a session, an environment and an exit code of its own, and runs the command's
main module. That the commands start by themselves is seen in tests/e2e and tests/chaos, which fork nothing.
"""

import atexit
import contextlib
import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.local.settings import REPOSITORY

_MODULES = "tests.support.command_modules"
_PR_SET_PDEATHSIG = 1


class PreloadedProcess:
    """What the tests use of a `subprocess.Popen`, of a process that is forked."""

    def __init__(self, command: tuple[str, ...], env: Mapping[str, str], log: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([_MODULES])
        self._process = context.Process(target=_run, args=(command, dict(env), log), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self._wait_own_group()

    def poll(self) -> int | None:
        """The exit code, None while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _wait_own_group(self) -> None:
        """Whoever ends processes ends groups of them; until it has one of its own, nothing would be found to end."""
        with contextlib.suppress(ProcessLookupError):
            while self.poll() is None and os.getpgid(self.pid) != self.pid:
                time.sleep(0.001)


def _run(command: tuple[str, ...], env: dict[str, str], log: Path) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Nothing is inherited, as over an exec. One of these keeps the fork server alive after those who run the tests.
    os.closerange(3, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 65536 else 65536)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(1, 2)
    os.chdir(REPOSITORY)
    os.environ.clear()
    os.environ.update(env)
    assert _MODULES in sys.modules, "the fork server has not found the modules"
    sys.argv = list(command)
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its processes without
