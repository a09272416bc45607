"""Celery's broker."""

import contextlib
import socket
import time
from collections.abc import Iterator

from deploy.local.ports import find_free_port
from tests.bench.figures import NotMeasured
from tests.bench.packages import REDIS, find_program
from tests.bench.programs import Running

_START_S = 5


@contextlib.contextmanager
def run_redis() -> Iterator[str]:
    """A running Redis that writes nothing to disk, which is the fastest it can be; gives its URL.

    Raises NotMeasured where there is none.
    """
    found, port = find_program(REDIS), find_free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with Running([found.path, *options], found.env) as process:
        deadline = time.monotonic() + _START_S
        while not _answers(port):
            if time.monotonic() > deadline or process.returncode is not None:
                raise NotMeasured(f"redis-server did not start: {process.read_log()[-500:]}")
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
