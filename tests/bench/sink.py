"""Postfix's smtp-sink as the relay: it swallows mail faster than anything here sends it, and counts."""

import contextlib
import os
import re
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from deploy.local.ports import find_free_port
from tests.bench.figures import NotMeasured
from tests.bench.packages import SMTP_SINK, find_program
from tests.bench.programs import Running

_COUNT = re.compile(r"mesg=(\d+)\r")
_START_S = 5
_ENVELOPE = b"X-Rcpt-Args: <"


class Sink:
    """A running smtp-sink, and the file that it writes every mail to, if it does."""

    def __init__(self, process: Running, port: int, dump: Path | None) -> None:
        self._process = process
        self._dump = dump
        self.port = port

    def count(self) -> int:
        """The mails it has answered 250 to."""
        found = _COUNT.findall(self._process.read_log_end())
        return int(found[-1]) if found else 0

    def count_recipients(self) -> Counter[str]:
        """How often it has taken mail for each address, by the envelopes in its dump."""
        assert self._dump, "of a sink that keeps a dump"
        found: Counter[str] = Counter()
        with self._dump.open("rb") as lines:
            for line in lines:
                if line.startswith(_ENVELOPE):
                    found[line[len(_ENVELOPE) :].split(b">")[0].decode()] += 1
        return found


@contextlib.contextmanager
def run_counting_sink(*, dumping: bool = False) -> Iterator[Sink]:
    """A running sink that knows how many mails it has taken, at the price of one write(2) for each.

    One that is `dumping` keeps them, too, in one file for as long as it runs. Raises NotMeasured where there is none.
    """
    if not dumping:
        with _run("-c") as sink:
            yield sink
        return
    with tempfile.TemporaryDirectory(prefix="milena-bench-") as directory:
        Path(directory).chmod(0o777)  # the sink is nobody
        dump = Path(directory) / "dump"
        with _run("-c", "-D", str(dump), dump=dump) as sink:
            yield sink


@contextlib.contextmanager
def run_sink() -> Iterator[int]:
    """A running sink; gives its port."""
    with _run() as sink:
        yield sink.port


@contextlib.contextmanager
def _run(*options: str, dump: Path | None = None) -> Iterator[Sink]:
    found = find_program(SMTP_SINK)
    port = find_free_port()
    user = ("-u", "nobody") if os.geteuid() == 0 else ()
    with Running([found.path, *options, *user, f"127.0.0.1:{port}", "1000"], found.env) as process:
        _wait_open(process, port)
        yield Sink(process, port, dump)


def _wait_open(process: Running, port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.returncode is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise NotMeasured(f"smtp-sink did not start: {process.read_log()}")
