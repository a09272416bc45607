"""Servers taken away from one test and nobody else's: PostgreSQL behind a proxy on a unix socket, a process frozen."""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from deploy.local.children import signal_group

_SOCKET = ".s.PGSQL.5432"


class DatabaseProxy:
    """Forwards to the server behind `database_url`; `url` leads through it until `cut()`, again after `mend()`.

    Between `freeze()` and `thaw()` connections are taken and kept, and nothing passes.
    """

    def __init__(self, database_url: str) -> None:
        # Short, because a unix socket's path may have about 100 bytes at most.
        self._directory = Path(tempfile.mkdtemp(prefix="pgproxy-"))
        parts = urlsplit(database_url)
        self._target = Path(parse_qs(parts.query)["host"][0]) / _SOCKET
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path}?host={self._directory}"
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def __aenter__(self) -> "DatabaseProxy":
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def mend(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_unix_server(self._forward, self._directory / _SOCKET)

    async def cut(self) -> None:
        """Break every connection and refuse new ones."""
        if self._server:
            self._server.close()
            self._server = None
        (self._directory / _SOCKET).unlink(missing_ok=True)
        for writer in list(self._open):
            writer.transport.abort()

    def freeze(self) -> None:
        """Let nothing pass any more."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let pass what has been waiting, and all that follows."""
        self._flowing.set()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_unix_connection(self._target)
        self._open |= {writer, back_writer}
        try:
            await asyncio.gather(self._pump(reader, back_writer), self._pump(back_reader, writer))
        finally:
            self._open -= {writer, back_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                await self._flowing.wait()
                writer.write(chunk)
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.contextmanager
def frozen(pid: int | None) -> Iterator[None]:
    """The broker's process is stopped without being ended, and goes on afterwards."""
    assert pid is not None
    assert os.getpgid(pid) == pid != os.getpgid(0)
    signal_group(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_group(pid, signal.SIGCONT)
