"""Programs that are none of our services, as processes that never outlive the bench."""

import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from deploy.local.children import signal_group, spawn, stop
from deploy.local.settings import REPOSITORY
from tests.bench.figures import NotMeasured


class Running:
    """One process and its output. A context manager: it ends with the block."""

    def __init__(self, command: Sequence[str | Path], env: Mapping[str, str], *, grace_s: float = 5) -> None:
        self.name = Path(command[0]).name
        self._grace_s = grace_s
        self._log = tempfile.NamedTemporaryFile(prefix="milena-bench-")  # noqa: SIM115
        self._process: subprocess.Popen[bytes] = spawn(command, stdout=self._log, env=env, cwd=REPOSITORY)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    def read_log(self) -> str:
        """All it has written."""
        return Path(self._log.name).read_text(errors="replace")

    def read_log_end(self, size: int = 200) -> str:
        """The last bytes it has written, cheap however long the log is."""
        with Path(self._log.name).open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - size))
            return log.read().decode(errors="replace")

    def wait(self, timeout_s: float) -> str:
        """Wait for its end and give its output. Raises NotMeasured when it fails or takes longer."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise NotMeasured(f"{self.name} took longer than {timeout_s:.0f} s") from None
        if code:
            raise NotMeasured(f"{self.name} ended with {code}: {self.read_log()[-2000:]}")
        return self.read_log()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to all it started when the grace is over."""
        stop(self._process, first=signal.SIGTERM, grace_s=self._grace_s)
        self._log.close()

    def kill(self) -> None:
        """SIGKILL to it and all it started: for a yardstick that still has mail to send."""
        signal_group(self._process.pid, signal.SIGKILL)
        self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def run_program(command: Sequence[str | Path], env: Mapping[str, str], *, timeout_s: float) -> str:
    """Run to the end and give the output. Raises NotMeasured."""
    with Running(command, env) as running:
        return running.wait(timeout_s)


def measure_cpu_s(pids: Sequence[int]) -> float:
    """User and system seconds of processes and all they have started, those that have ended included."""
    total = 0.0
    for pid in pids:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def measure_resident_mb(pids: Sequence[int]) -> float:
    """Resident memory of the largest of the processes."""
    return max(float(psutil.Process(pid).memory_info().rss) for pid in pids) / 1e6
