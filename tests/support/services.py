"""Run a service's own command as a process, the way production does."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp

import httpx

from deploy.local.children import signal_group, spawn
from deploy.local.children import stop as stop_child
from deploy.local.ports import find_free_port
from deploy.local.settings import REPOSITORY
from tests.support.preloaded import PreloadedProcess


class ServiceProcess:
    """One running command, for example ``python -m services.sender worker``."""

    def __init__(
        self, command: tuple[str, ...], env: Mapping[str, str], port: int, log: Path, *, preloaded: bool = False
    ) -> None:
        self.name = " ".join(command)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._command = command
        self._env = env
        self._log = log
        self._written = ""
        self._preloaded = preloaded
        self._process = self._start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, None while the process runs."""
        return self._process.poll()

    def read_log(self) -> str:
        """Everything the process has written so far."""
        if self._log.exists():
            self._written = self._log.read_text(errors="replace")
        return self._written

    async def wait_ready(self, timeout_s: float = 30) -> None:
        """Wait until ``/readyz`` answers 200; fails with the log when the process ends or time is over."""
        deadline = time.monotonic() + timeout_s
        async with httpx.AsyncClient(timeout=2) as client:
            while time.monotonic() < deadline and self.returncode is None:
                try:
                    if (await client.get(f"{self.url}/readyz")).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.05)
        raise AssertionError(f"{self.name} is not ready (exit code {self.returncode}):\n{self.read_log()}")

    async def wait_exit(self, timeout_s: float = 10) -> int:
        """Wait for the process to end and give its exit code."""
        return await asyncio.to_thread(self._process.wait, timeout_s)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL the process and all it started, and wait until it is gone."""
        signal_group(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def restart(self) -> None:
        """Start the same command again, after it has ended; its log goes on in the same file."""
        self._process = self._start()

    def stop(self, grace_s: float = 10) -> None:
        """SIGTERM, and SIGKILL after the grace."""
        stop_child(self._process, first=signal.SIGTERM, grace_s=grace_s)

    def _start(self) -> subprocess.Popen[bytes] | PreloadedProcess:
        if self._preloaded:
            return PreloadedProcess(self._command, self._env, self._log)
        with self._log.open("ab") as log:
            return spawn([sys.executable, "-m", *self._command], stdout=log, env=self._env, cwd=REPOSITORY)


class ServiceRunner:
    """Starts services with one test's environment and ends them all with the test.

    `preloaded`: not by the command that production types, but forked, which is there in half the time
    (tests/support/preloaded.py).
    """

    def __init__(self, env: Mapping[str, str], *, preloaded: bool = False) -> None:
        self.env = dict(env)
        self._preloaded = preloaded
        self._logs = Path(mkdtemp(prefix="milena-logs-"))
        self._started: list[ServiceProcess] = []

    def start(self, *command: str, env: Mapping[str, str] | None = None, port: int | None = None) -> ServiceProcess:
        """Start ``python -m <command>``; ``env`` is laid over the test's environment.

        The process gets a port for its health server or API (MILENA_HEALTH_PORT and MILENA_HTTP_PORT).
        """
        chosen = port or find_free_port()
        addresses = {
            "MILENA_HEALTH_PORT": str(chosen),
            "MILENA_HTTP_PORT": str(chosen),
            "MILENA_BASE_URL": f"http://127.0.0.1:{chosen}",
        }
        full = {**self.environment(), **addresses, **(env or {})}
        log = self._logs / f"{len(self._started)}.log"
        service = ServiceProcess(command, full, chosen, log, preloaded=self._preloaded)
        self._started.append(service)
        return service

    def environment(self) -> dict[str, str]:
        """The environment of every process started here, before what is its own."""
        return {**_clean_environment(), **self.env}

    def stop_all(self) -> None:
        """End every process, latest first. Their logs can still be read, their files are gone."""
        for service in reversed(self._started):
            if service.returncode is None:
                service.terminate()
        for service in reversed(self._started):
            service.stop()
            service.read_log()
        shutil.rmtree(self._logs, ignore_errors=True)

    def describe_logs(self) -> str:
        """The logs of all processes, each under its command."""
        return "\n".join(f"--- {service.name}\n{service.read_log()}" for service in self._started)


def _clean_environment() -> dict[str, str]:
    """The environment without any MILENA_ variable of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MILENA_")}
