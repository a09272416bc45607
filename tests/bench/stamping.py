"""A relay of the bench's own that notes when it has taken which mail: for latencies, not for rates."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

_ID = re.compile(rb"^Message-ID: *<([0-9a-f-]{36})@", re.IGNORECASE | re.MULTILINE)
_GREETING = b"220 stamping ESMTP\r\n"
_EHLO = b"250-stamping\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
_DOT = b"\r\n.\r\n"


class Stamps:
    """When each mail was taken (time.time()), by its id (R12)."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = {}

    def note(self, content: bytes) -> None:
        """The final dot has come."""
        found = _ID.search(content)
        if found:
            self.taken.setdefault(found[1].decode(), time.time())


class _Session(asyncio.Protocol):
    """One connection: whatever is said is answered with yes, commands and contents in any portions."""

    def __init__(self, stamps: Stamps) -> None:
        self._stamps = stamps
        self._buffer = b""
        self._in_content = False
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._transport.write(_GREETING)

    def data_received(self, data: bytes) -> None:
        assert self._transport
        self._buffer += data
        replies = []
        while reply := self._take_reply():
            replies.append(reply)
        self._transport.write(b"".join(replies))

    def _take_reply(self) -> bytes | None:
        """The answer to the next whole command or content in the buffer."""
        content, end, rest = self._buffer.partition(_DOT if self._in_content else b"\r\n")
        if not end:
            return None
        self._buffer = rest
        if self._in_content:
            self._in_content = False
            self._stamps.note(content)
            return b"250 2.0.0 taken\r\n"
        command = content[:4].upper()
        if command == b"EHLO":
            return _EHLO
        if command == b"DATA":
            self._in_content = True
            return b"354 go on\r\n"
        return b"221 2.0.0 bye\r\n" if command == b"QUIT" else b"250 2.0.0 ok\r\n"


@asynccontextmanager
async def run_stamping_relay(stamps: Stamps) -> AsyncIterator[int]:
    """Listen on loopback; gives the port."""
    server = await asyncio.get_running_loop().create_server(lambda: _Session(stamps), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
