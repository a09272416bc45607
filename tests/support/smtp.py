"""A scripted SMTP server: answers what the test says, keeps what it took, never asks the code under test."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

Answer = str | None
"""A reply line (`"451 4.3.0 later"`), `"DROP"` to close the connection, `"HANG"` to stay silent, None for the default."""


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
    """`answer(step, argument)`: step is connect, ehlo, auth, mail, rcpt, data, dot, rset; argument the address or the Message-ID."""

    answer: Callable[[str, str], Answer] = lambda step, argument: None
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SMTPUTF8", "AUTH PLAIN LOGIN")
    dot_delay_s: float = 0.0


@dataclass
class SmtpServer:
    """A running server."""

    port: int
    script: Script
    taken: list[Taken] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0

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
                names = [*self._server.script.extensions, "SIZE 10000000"]
                lines = ["250-scripted", *(f"250-{name}" for name in names[:-1]), f"250 {names[-1]}"]
                await self._say("ehlo", "", "\r\n".join(lines))
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

    async def _mail(self, command: str) -> None:
        if self._sender:
            return await self._say("nested", "", "503 5.5.1 nested MAIL command")
        address = command[command.index("<") + 1 : command.index(">")]
        if await self._say("mail", address, "250 2.1.0 ok"):
            self._sender = address
        return None

    async def _rcpt(self, command: str) -> None:
        if not self._sender:
            return await self._say("order", "", "503 5.5.1 need MAIL before RCPT")
        address = command[command.index("<") + 1 : command.index(">")]
        if await self._say("rcpt", address, "250 2.1.5 ok"):
            self._recipients.append(address)
        return None

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
        task = asyncio.current_task()
        assert task
        sessions.add(task)
        try:
            await _Session(server, reader, writer).run()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            sessions.discard(task)
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", port)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(sessions):
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)
