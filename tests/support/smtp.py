"""A scripted SMTP server: answers what the test says, keeps what it took, never asks the code under test."""

import asyncio
import re
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

Answer = str | None
"""A reply line (`"451 4.3.0 later"`), `"DROP"` to close the connection, `"HANG"` to stay silent, None: the default.

`"SPLIT 250 ok"` leaves byte by byte. At the dot `"DROP"` and `"HANG"` keep the mail without saying so; `"LOSE"` closes
the connection and has not taken it.
"""

_MESSAGE_ID = re.compile(rb"^Message-ID:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Taken:
    """One mail the server has answered 250 to (or was told to swallow without an answer)."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        """The mail as the standard library reads it."""
        parsed = message_from_bytes(self.raw, policy=default)
        assert isinstance(parsed, EmailMessage)
        return parsed

    @property
    def message_id(self) -> str:
        """The Message-ID, found without reading the whole mail; `None` as text where there is none."""
        found = _MESSAGE_ID.search(self.raw)
        return found[1].decode() if found else "None"


@dataclass
class Script:
    """`answer(step, argument)`: step is connect, ehlo, starttls, auth, mail, rcpt, data, dot, rset, quit.

    The argument is the address, the AUTH command, or at the dot the Message-ID. With `tls_context` the server offers
    STARTTLS, or with `implicit_tls` speaks TLS from the first byte. `delay(step, argument)` seconds pass before the
    answer, at the dot `dot_delay_s` more: the mail is taken when they have passed, whether or not anybody still waits.
    """

    answer: Callable[[str, str], Answer] = lambda step, argument: None
    delay: Callable[[str, str], float] = lambda step, argument: 0.0
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SMTPUTF8", "AUTH PLAIN LOGIN")
    size: int | None = 10_000_000
    """What SIZE announces; it is not enforced."""
    dot_delay_s: float = 0.0
    tls_context: ssl.SSLContext | None = None
    implicit_tls: bool = False


@dataclass
class SmtpServer:
    """A server on the loopback interface, running from `start` to `stop`; what it took outlives both."""

    port: int
    script: Script
    taken: list[Taken] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    journal: list[tuple[int, str]] = field(default_factory=list)
    """Each command with the number of its connection."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    connections: int = 0
    open: int = 0
    encrypted: int = 0
    at_dot: int = 0
    """Mails whose content is here and that have no answer yet."""
    _listener: asyncio.Server | None = None
    _sessions: set[asyncio.Task[None]] = field(default_factory=set)
    _transports: set[asyncio.WriteTransport] = field(default_factory=set)

    def deliveries(self) -> Counter[tuple[str, str]]:
        """How often each (Message-ID, recipient) was taken."""
        return Counter(self.counts)

    def take(self, taken: Taken) -> None:
        """Keep a mail: from now on the relay has it, whatever its client learns."""
        self.taken.append(taken)
        message_id = taken.message_id
        for recipient in taken.recipients:
            self.counts[message_id, recipient] += 1

    async def wait_taken(self, count: int, timeout_s: float = 15.0) -> None:
        """Wait until so many mails were taken."""
        async with asyncio.timeout(timeout_s):
            while len(self.taken) < count:
                await asyncio.sleep(0.02)

    async def start(self) -> None:
        """Listen: on a free port the first time, on the same one after a `stop`."""
        implicit = self.script.tls_context if self.script.implicit_tls else None
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=implicit, limit=1 << 20)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Go away: nobody is let in, every connection breaks, mail without an answer yet is not taken."""
        if self._listener:
            self._listener.close()
            self._listener = None
        for task in list(self._sessions):
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        for transport in self._transports:  # TLS would wait for the other side's goodbye
            transport.abort()
        await asyncio.sleep(0.01)

    def drop_connections(self) -> None:
        """Break every connection; who connects again is let in."""
        for transport in self._transports:
            transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.encrypted += writer.get_extra_info("sslcontext") is not None
        task = asyncio.current_task()
        assert task
        self._sessions.add(task)
        self._transports.add(writer.transport)
        try:
            await _Session(self, reader, writer).run()
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._sessions.discard(task)
            writer.close()


class _Wire:
    """What comes in, by lines and by whole contents: asyncio's readline alone takes a second for 20 MB of mail."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._buffer = bytearray()

    async def readline(self) -> bytes:
        """A line with its end; empty once the client has gone."""
        while (end := self._buffer.find(b"\n")) < 0:
            if not await self._fill():
                return b""
        return self._cut(end + 1)

    async def read_content(self) -> bytes:
        """What follows a 354, without the final dot and the doubled ones. Raises ConnectionError before its end."""
        looked = 0
        while not self._buffer.startswith(b".\r\n"):
            end = self._buffer.find(b"\r\n.\r\n", looked)
            if end >= 0:
                stuffed = b"\r\n" + self._cut(end + 5)[:-3]
                return stuffed.replace(b"\r\n.", b"\r\n")[2:]
            looked = max(0, len(self._buffer) - 4)
            if not await self._fill():
                raise ConnectionError
        self._cut(3)
        return b""

    async def _fill(self) -> bool:
        chunk = await self._reader.read(1 << 18)
        self._buffer += chunk
        return bool(chunk)

    def _cut(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken


class _Session:
    def __init__(self, server: SmtpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._wire = _Wire(reader)
        self._writer = writer
        self._sender = ""
        self._recipients: list[str] = []
        self._number = server.connections

    async def run(self) -> None:
        await self._say("connect", "", "220 scripted ESMTP")
        while line := await self._wire.readline():
            command = line.decode().rstrip("\r\n")
            self._server.commands.append(command)
            self._server.journal.append((self._number, command))
            verb = command.upper()
            if verb.startswith("EHLO"):
                script = self._server.script
                size = [] if script.size is None else [f"SIZE {script.size}"]
                names = ["scripted", *script.extensions, *self._offer_tls(), *size]
                lines = [*(f"250-{name}" for name in names[:-1]), f"250 {names[-1]}"]
                await self._say("ehlo", "", "\r\n".join(lines))
            elif verb == "STARTTLS":
                await self._start_tls()
            elif verb.startswith("AUTH"):
                await self._say("auth", command, "235 2.7.0 ok")
            elif verb.startswith("MAIL"):
                await self._mail(command)
            elif verb.startswith("RCPT"):
                await self._rcpt(command)
            elif verb == "DATA":
                await self._data()
            elif verb == "QUIT":
                await self._say("quit", "", "221 bye")
                return
            else:
                self._sender, self._recipients = "", []
                await self._say("rset", "", "250 2.0.0 ok")

    def _offer_tls(self) -> list[str]:
        script = self._server.script
        encrypted = self._writer.get_extra_info("sslcontext") is not None
        return ["STARTTLS"] if script.tls_context and not encrypted else []

    async def _start_tls(self) -> None:
        context = self._server.script.tls_context
        assert context
        if await self._say("starttls", "", "220 2.0.0 go on"):
            await self._writer.start_tls(context)
            self._server.encrypted += 1

    async def _mail(self, command: str) -> None:
        if self._sender:
            await self._say("nested", "", "503 5.5.1 nested MAIL command")
            return
        address = command[command.index("<") + 1 : command.index(">")]
        if await self._say("mail", address, "250 2.1.0 ok"):
            self._sender = address

    async def _rcpt(self, command: str) -> None:
        if not self._sender:
            await self._say("order", "", "503 5.5.1 need MAIL before RCPT")
            return
        address = command[command.index("<") + 1 : command.index(">")]
        if await self._say("rcpt", address, "250 2.1.5 ok"):
            self._recipients.append(address)

    async def _data(self) -> None:
        if not self._recipients:
            await self._say("order", "", "554 5.5.1 no valid recipients")
            return
        if not await self._say("data", self._sender, "354 go on"):
            return
        content = await self._wire.read_content()
        taken = Taken(self._sender, tuple(self._recipients), content)
        self._sender, self._recipients = "", []
        await self._end(taken)

    async def _end(self, taken: Taken) -> None:
        script, message_id = self._server.script, taken.message_id
        self._server.at_dot += 1
        try:
            if pause := script.dot_delay_s + script.delay("dot", message_id):
                await asyncio.sleep(pause)
        finally:
            self._server.at_dot -= 1
        answer = script.answer("dot", message_id)
        if answer is None or answer in ("DROP", "HANG") or answer.removeprefix("SPLIT ").startswith("2"):
            self._server.take(taken)
        await self._reply(answer or "250 2.0.0 queued as SCRIPTED")

    async def _say(self, step: str, argument: str, usual: str) -> bool:
        script = self._server.script
        if pause := script.delay(step, argument):
            await asyncio.sleep(pause)
        answer = script.answer(step, argument) or usual
        await self._reply(answer)
        return answer.removeprefix("SPLIT ")[0] in "23"

    async def _reply(self, answer: str) -> None:
        if answer in ("DROP", "LOSE"):
            raise ConnectionError
        if answer == "HANG":
            await asyncio.sleep(3600)
        whole = answer.removeprefix("SPLIT ").encode() + b"\r\n"
        for piece in [whole[n : n + 1] for n in range(len(whole))] if answer.startswith("SPLIT ") else [whole]:
            self._writer.write(piece)
            await self._writer.drain()
            if len(piece) < len(whole):
                await asyncio.sleep(0.001)  # a packet of its own
        if answer.startswith("421"):
            raise ConnectionError


@asynccontextmanager
async def run_smtp(script: Script | None = None, port: int = 0) -> AsyncIterator[SmtpServer]:
    """A scripted server on the loopback interface, on a free port unless one is given."""
    server = SmtpServer(port, script or Script())
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@contextmanager
def run_smtp_apart(script: Script | None = None) -> Iterator[SmtpServer]:
    """The same in a thread of its own, for fixtures that outlive a test's loop."""
    ready, ended = threading.Event(), threading.Event()
    found: list[SmtpServer] = []

    async def run() -> None:
        async with run_smtp(script) as server:
            found.append(server)
            ready.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    ready.wait()
    try:
        yield found[0]
    finally:
        ended.set()
        thread.join()
