"""Load on an HTTP endpoint: wrk, or where it cannot be had a client of ours, which takes more of the cores."""

import functools
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import NotMeasured
from tests.bench.packages import WRK, find_program
from tests.bench.programs import Running

CONNECTIONS = 64
_SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class LoadResult:
    """What came back. Latencies in milliseconds, under full load."""

    seconds: float
    requests: int
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float

    @property
    def accepted(self) -> int:
        """Answers below 400."""
        return self.requests - self.refused


@functools.cache
def name_client() -> str:
    """Which client this run uses."""
    try:
        return f"wrk {find_program(WRK).version}"
    except NotMeasured:
        return "tests.bench.posting (wrk is not to be had)"


def start_load(url: str, body: object, authorization: str, seconds: float, connections: int = CONNECTIONS) -> "Load":
    """Begin posting `body`, as fast as answers come over so many connections."""
    return Load(url, json.dumps(body).encode(), authorization, seconds, connections)


class Load:
    """A client at work, in a process of its own."""

    def __init__(self, url: str, body: bytes, authorization: str, seconds: float, connections: int) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="milena-bench-")  # noqa: SIM115
        self._file.write(body)
        self._file.flush()
        self._seconds = max(1, round(seconds))  # wrk knows whole ones
        own = [self._file.name, authorization]
        if name_client().startswith("wrk"):
            wrk = find_program(WRK)
            options = ["-t1", f"-c{connections}", f"-d{self._seconds}s", "--timeout", "10s", "-s", str(_SCRIPT)]
            self._client = Running([wrk.path, *options, url, "--", *own], wrk.env)
        else:
            client = [sys.executable, "-m", "tests.bench.posting", url, *own, str(connections), str(self._seconds)]
            self._client = Running(client, dict(os.environ))

    def finish(self) -> LoadResult:
        """Wait for the end. Raises NotMeasured when answers were refused: their rate means nothing."""
        try:
            said = self._client.wait(self._seconds + 30)
        finally:
            self._client.stop()
            self._file.close()
        result = LoadResult(**json.loads(said.strip().rpartition("\n")[2]))
        if result.refused or result.broken or not result.requests:
            raise NotMeasured(f"of {result.requests} requests {result.refused} were refused, {result.broken} broke")
        return result
