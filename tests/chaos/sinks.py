"""A relay in a bad mood: several of Postfix's smtp-sink, each failing in its own way, behind a door that draws lots.

smtp-sink refuses or hangs up on the commands it is told to, always; the chance is the door's. For each connection it
draws one of the sinks, and after some of its answers it shuts, wherever the conversation stands. Then the next lot is
drawn. The sinks count what they took.
"""

import asyncio
import contextlib
import os
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from deploy.local.ports import find_free_port
from tests.bench.packages import SMTP_SINK, Found, find_program
from tests.bench.programs import Running

_COUNT = re.compile(r"mesg=(\d+)\r")
_START_S = 5
_SHORT, _LONG = (100, 1500), (500, 6_000)  # octets of answers after which the door shuts
_BUSY = ("-b", "450 4.2.1 Error: mailbox busy")


@dataclass(frozen=True)
class Mood:
    """How one sink behaves, and how often it is drawn."""

    options: tuple[str, ...]
    weight: float
    lasts: tuple[int, int] = _SHORT

    @property
    def takes(self) -> bool:
        """Whether it says 250 to what it counts: it counts what it refuses or hangs up on after the dot, too."""
        return "." not in self.options


MOODS = (
    Mood((), 70, _LONG),
    Mood(("-e",), 3, _LONG),  # no ESMTP at all
    Mood((*_BUSY, "-r", "RCPT"), 4),
    Mood((*_BUSY, "-r", "."), 4),
    Mood((*_BUSY, "-r", "MAIL"), 1),
    Mood(("-B", "550 5.1.1 Error: no such user", "-f", "RCPT"), 4),
    Mood(("-B", "554 5.7.1 Error: refused", "-f", "."), 4),
    Mood(("-q", "."), 3),
    Mood(("-q", "RCPT"), 2),
    Mood(("-q", "DATA"), 1),
    Mood(("-q", "CONNECT"), 1),
    Mood(("-Q", "."), 1),  # 421
    Mood(("-Q", "MAIL"), 1),
    Mood(("-Q", "CONNECT"), 1),
)


@dataclass
class Door:
    """Where the senders knock. `drawn`: connections by the mood they met; `shut`: those the door has ended."""

    ports: list[int]
    luck: random.Random
    port: int = 0
    shut: int = 0
    drawn: dict[Mood, int] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its lot to its end."""
        own = asyncio.current_task()
        assert own
        self._tasks.add(own)
        mood, port = self.luck.choices(list(zip(MOODS, self.ports, strict=True)), [each.weight for each in MOODS])[0]
        self.drawn[mood] = self.drawn.get(mood, 0) + 1
        before: asyncio.StreamWriter | None = None
        try:
            behind, before = await asyncio.open_connection("127.0.0.1", port)
            up = asyncio.create_task(_pass_on(reader, before))
            down = asyncio.create_task(_pass_on(behind, writer, self.luck.randint(*mood.lasts)))
            ended, _ = await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            self.shut += down in ended and down.exception() is None and down.result()
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for side in (writer, before):
                if side:
                    side.close()
                    side.transport.abort()
            self._tasks.discard(own)

    async def close(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None = None) -> bool:
    """Copy until the end, or until `limit` octets have gone through; returns whether that was it."""
    passed = 0
    while chunk := await reader.read(1 << 16):
        writer.write(chunk)
        await writer.drain()
        passed += len(chunk)
        if limit is not None and passed >= limit:
            return True
    return False


class Sinks:
    """The sinks behind the door."""

    def __init__(self, door: Door, running: list[Running]) -> None:
        self.door = door
        self._running = running

    def count(self) -> int:
        """Mails that they have answered 250 to, whether or not that came through the door."""
        takers = (each for mood, each in zip(MOODS, self._running, strict=True) if mood.takes)
        found = (_COUNT.findall(each.read_log_end()) for each in takers)
        return sum(int(counts[-1]) for counts in found if counts)

    def describe(self) -> str:
        """How often each mood was met."""
        met = (f"{' '.join(mood.options) or 'good'}: {times}" for mood, times in self.door.drawn.items())
        return f"connections by smtp-sink's options: {', '.join(sorted(met))}; {self.door.shut} cut off at random"


@asynccontextmanager
async def run_sinks(seed: int) -> AsyncIterator[Sinks]:
    """All of them, running. Raises NotMeasured where there is no smtp-sink."""
    found = find_program(SMTP_SINK)
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(_run(found, *mood.options)) for mood in MOODS]
        door = Door([port for port, _ in started], random.Random(seed))
        server = await asyncio.start_server(door.serve, "127.0.0.1", 0)
        door.port = server.sockets[0].getsockname()[1]
        try:
            yield Sinks(door, [running for _, running in started])
        finally:
            server.close()
            await door.close()


@contextlib.contextmanager
def _run(found: Found, *options: str) -> Iterator[tuple[int, Running]]:
    port = find_free_port()
    user = ("-u", "nobody") if os.geteuid() == 0 else ()
    with Running([found.path, "-c", *options, *user, f"127.0.0.1:{port}", "1000"], found.env) as running:
        deadline = time.monotonic() + _START_S
        while running.returncode is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                yield port, running
                return
            time.sleep(0.05)
        raise AssertionError(f"smtp-sink did not start: {running.read_log()}")
