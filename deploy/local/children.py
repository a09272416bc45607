"""Child processes that never outlive the one that started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

_TETHER = Path(__file__).with_name("tether.py")


@dataclass(frozen=True)
class Identity:
    """The system user a child runs as."""

    uid: int
    gid: int


def tether(
    command: Sequence[str | Path],
    *,
    death_signal: signal.Signals = signal.SIGKILL,
    identity: Identity | None = None,
) -> list[str]:
    """Give the command that runs ``command`` and sends it ``death_signal`` once this process is gone.

    The kernel (Linux; elsewhere there is no such thing) watches the *thread* that starts the command, so
    start it from the main one.
    """
    user = (str(identity.uid), str(identity.gid)) if identity else ("-", "-")
    shim = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), str(int(death_signal)), *user]
    return [*shim, *map(str, command)]


def spawn(
    command: Sequence[str | Path],
    *,
    stdout: int | IO[bytes],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    identity: Identity | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a tethered command in a session of its own; standard error goes where standard output goes.

    A session of its own keeps a Ctrl-C at the terminal from reaching children before their order is decided.
    """
    return subprocess.Popen(
        tether(command, death_signal=death_signal, identity=identity),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        env=dict(env) if env is not None else None,
        cwd=cwd,
        start_new_session=True,
    )


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a child started by ``spawn`` and to everything it started; being gone is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


class Child(Protocol):
    """A process that can be asked, signalled and waited for, as `subprocess.Popen`."""

    pid: int

    def poll(self) -> int | None:
        """The exit code, None while it runs."""

    def send_signal(self, sig: int, /) -> None:
        """Send a signal, unless it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""


def stop(process: Child, *, first: signal.Signals, grace_s: float) -> None:
    """Stop one child: ``first`` to the child alone, SIGKILL to its whole group when the grace is over."""
    if process.poll() is None:
        process.send_signal(first)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    signal_group(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(ready: Callable[[], bool], *, timeout_s: float, step_s: float = 0.05) -> bool:
    """Ask ``ready`` every ``step_s`` seconds; False when ``timeout_s`` have passed without a yes."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(step_s)
    return True
