"""HTTP posts over connections that stay open: the clock of the latency, and the load where wrk is not to be had.

`python -m tests.bench.posting URL BODY_FILE AUTHORIZATION CONNECTIONS SECONDS` prints what tests/bench/post.lua does.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import uvloop

from tests.bench.targets import take_percentile

Answer = tuple[int, bytes]
"""Status and body."""


class HttpConnection:
    """One keep-alive connection, one request at a time. Understands answers with a Content-Length, as ours have."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self._reader, self._writer, self._head = reader, writer, head

    @classmethod
    async def open(cls, url: str, authorization: str) -> Self:
        """Connect. Every request goes to this URL."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f"Authorization: {authorization}\r\nContent-Length: "
        )
        return cls(reader, writer, head.encode())

    async def post(self, body: bytes) -> Answer:
        """Post and wait for the answer."""
        self._writer.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def post_for(url: str, body: bytes, authorization: str, connections: int, seconds: float) -> dict[str, float]:
    """As many posts as go through `connections` at once."""
    took: list[float] = []
    refused = 0
    started = time.perf_counter()

    async def run() -> None:
        nonlocal refused
        connection = await HttpConnection.open(url, authorization)
        while (began := time.perf_counter()) - started < seconds:
            status, _ = await connection.post(body)
            refused += status >= 400
            took.append(time.perf_counter() - began)
        connection.close()

    await asyncio.gather(*(run() for _ in range(connections)))
    return {
        "seconds": time.perf_counter() - started,
        "requests": len(took),
        "refused": refused,
        "broken": 0,
        "p50_ms": take_percentile(took, 50) * 1e3,
        "p99_ms": take_percentile(took, 99) * 1e3,
    }


if __name__ == "__main__":
    target, file, key, number, duration = sys.argv[1:]
    print(json.dumps(uvloop.run(post_for(target, Path(file).read_bytes(), key, int(number), float(duration)))))
