"""Child processes that never outlive the one that started them."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1


def die_with_parent(death_signal: signal.Signals, parent: int) -> Callable[[], None] | None:
    """Give a ``preexec_fn`` after which the child gets ``death_signal`` once the process ``parent`` is gone.

    Only Linux has this; elsewhere None. The kernel watches the *thread* that forked, so children must be
    started from a thread that lives as long as they should.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)  # loaded before the fork: an import after it could deadlock

    def ask_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the kernel was asked
            os._exit(1)

    return ask_kernel


@dataclass(frozen=True)
class Identity:
    """The system user a child runs as."""

    uid: int
    gid: int


def spawn(
    command: Sequence[str | Path],
    *,
    stdout: int | IO[bytes],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    identity: Identity | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own; standard error goes where standard output goes.

    Call it from the main thread (see ``die_with_parent``). A group of its own keeps a Ctrl-C at the terminal
    from reaching children before the supervisor has decided their order.
    """
    return subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        env=dict(env) if env is not None else None,
        cwd=cwd,
        user=identity.uid if identity else None,
        group=identity.gid if identity else None,
        extra_groups=[] if identity else None,
        start_new_session=True,
        preexec_fn=die_with_parent(death_signal, os.getpid()),
    )


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a child and to everything it started; a group that is gone already is no error."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def stop(process: subprocess.Popen[bytes], *, first: signal.Signals, grace_s: float) -> None:
    """Stop one child: ``first`` to the child alone, SIGKILL to its whole group when the grace is over."""
    if process.poll() is None:
        process.send_signal(first)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        pass
    signal_group(process, signal.SIGKILL)
    process.wait()


def wait_until(ready: Callable[[], bool], *, timeout_s: float, step_s: float = 0.05) -> bool:
    """Ask ``ready`` every ``step_s`` seconds; False when ``timeout_s`` have passed without a yes."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(step_s)
    return True
