"""At most one stack on a data directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.errors import StackError


@contextmanager
def hold(lock_file: Path) -> Iterator[None]:
    """Hold the lock for as long as the stack runs; the kernel releases it whatever becomes of the process.

    Raises StackError when another stack holds it.
    """
    with lock_file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(
                f"a stack is already running on {lock_file.parent} (pid {find_holder(lock_file)}):"
                " `make stop` stops it; MILENA_DATA_DIR and MILENA_PORT_OFFSET make room for a second one."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def find_holder(lock_file: Path) -> int | None:
    """Give the process id of the supervisor that holds the lock, None where nobody does."""
    try:
        with lock_file.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0) or None
    except FileNotFoundError:
        pass
    return None
