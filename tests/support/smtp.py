"""A scripted SMTP server: answers what the test says, keeps what it took, never asks the code under test."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

Answer = str | None
"""A reply line (`"451 4.3.0 later"`), `"DROP"` to close the connection, `"HANG"` to stay silent, None: the default."""


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


@dataclass
class Script:
    """`answer(step, argument)`: step is connect, ehlo, starttls, auth, mail, rcpt, data, dot, rset.

    The argument is the address, the AUTH command, or at the dot the Message-ID. With `tls_context` the server offers
    STARTTLS, or with `implicit_tls` speaks TLS from the first byte.
    """

    answer: Callable[[str, str], Answer] = lambda step, argument: None
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SMTPUTF8", "AUTH PLAIN LOGIN")
    dot_delay_s: float = 0.0
    tls_context: ssl.SSLContext | None = None
    implicit_tls: bool = False


async def _never_started() -> None:
    """Nothing to stop."""


@dataclass
class SmtpServer:
    """A running server."""

    port: int
    script: Script
    taken: list[Taken] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    encrypted: int = 0
    stop: Callable[[], Awaitable[None]] = field(default=_never_started)

    def deliveries(self) -> Counter[tuple[str, str]]:
        """How often each (Message-ID, recipient) was taken."""
        return Counter((each.message["Message-ID"], recipient) for each in self.taken for recipient in each.recipients)

    async def wait_taken(self, count: int, timeout_s: float = 15.0) -> None:
        """Wait until so many mails were taken."""
        async with asyncio.timeout(timeout_s):
            while len(self.taken) < count:
                await asyncio.sleep(0.02)


class _Session:
    def __init__(self, server: SmtpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._sender = ""
        self._recipients: list[str] = []

    async def run(self) -> None:
        await self._say("connect", "", "220 scripted ESMTP")
        while line := await self._reader.readline():
            command = line.decode().rstrip("\r\n")
            self._server.commands.append(command)
            verb = command.upper()
            if verb.startswith("EHLO"):
                names = [*self._server.script.extensions, *self._offer_tls(), "SIZE 10000000"]
                lines = ["250-scripted", *(f"250-{name}" for name in names[:-1]), f"250 {names[-1]}"]
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
        lines = []
        while (line := await self._reader.readline()) != b".\r\n":
            if not line:
                raise ConnectionError
            lines.append(line[1:] if line.startswith(b".") else line)
        await asyncio.sleep(self._server.script.dot_delay_s)
        taken = Taken(self._sender, tuple(self._recipients), b"".join(lines))
        self._sender, self._recipients = "", []
        message_id = str(taken.message["Message-ID"])
        answer = self._server.script.answer("dot", message_id)
        if answer is None or answer in ("DROP", "HANG") or answer.startswith("2"):
            self._server.taken.append(taken)
        await self._reply(answer or "250 2.0.0 queued as SCRIPTED")

    async def _say(self, step: str, argument: str, usual: str) -> bool:
        answer = self._server.script.answer(step, argument)
        await self._reply(answer or usual)
        return (answer or usual)[0] in "23"

    async def _reply(self, answer: str) -> None:
        if answer == "DROP":
            raise ConnectionError
        if answer == "HANG":
            await asyncio.sleep(3600)
        self._writer.write(answer.encode() + b"\r\n")
        await self._writer.drain()
        if answer.startswith("421"):
            raise ConnectionError


@asynccontextmanager
async def run_smtp(script: Script | None = None, port: int = 0) -> AsyncIterator[SmtpServer]:
    """A scripted server on the loopback interface, on a free port unless one is given."""
    server = SmtpServer(0, script or Script())
    sessions: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        server.open += 1
        server.encrypted += writer.get_extra_info("sslcontext") is not None
        task = asyncio.current_task()
        assert task
        sessions.add(task)
        try:
            await _Session(server, reader, writer).run()
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            server.open -= 1
            sessions.discard(task)
            writer.close()

    implicit = server.script.tls_context if server.script.implicit_tls else None
    implicit = server.script.tls_context if server.script.implicit_tls else None
    listener = await asyncio.start_server(serve, "127.0.0.1", port, ssl=implicit)
    server.port = listener.sockets[0].getsockname()[1]

    async def stop() -> None:
        listener.close()
        for task in list(sessions):
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    server.stop = stop
    try:
        yield server
    finally:
        await stop()
