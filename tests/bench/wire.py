"""The SMTP conversation alone: ours pipelined, ours in lock-step, and aiosmtplib command by command."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiosmtplib

from services.sender.connecting import OpenConnection, RelayAddress, open_connection
from services.sender.conversation import Abilities, Timeouts
from services.sender.parcel import Parcel
from services.sender.relay import Relay

CONNECTIONS = 8
_CONTENT = b"Subject: bench\r\n\r\n" + b"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do.\r\n" * 30


@dataclass(frozen=True)
class WireResult:
    """CPU is this process's, user and system."""

    way: str
    mails_per_s: float
    cpu_us_per_mail: float

    def describe(self) -> str:
        """One line for people."""
        return f"{self.way:34} {self.mails_per_s:9,.0f}/s {self.cpu_us_per_mail:6.0f} µs CPU a mail"


async def measure_wire(port: int, mails: int) -> list[WireResult]:
    """The three ways, one after another, to the sink on `port`."""
    return [
        await _measure("aiosmtplib sendmail", mails, lambda: _send_with_library(port, mails)),
        await _measure("conversation in lock-step", mails, lambda: _send_with_relay(port, mails, pipelining=False)),
        await _measure("conversation pipelined", mails, lambda: _send_with_relay(port, mails, pipelining=True)),
    ]


async def _measure(way: str, mails: int, send: Callable[[], Awaitable[None]]) -> WireResult:
    started, cpu = time.monotonic(), time.process_time()
    await send()
    seconds, used = time.monotonic() - started, time.process_time() - cpu
    return WireResult(way, mails / seconds, used / mails * 1e6)


async def _send_with_library(port: int, mails: int) -> None:
    left = iter(range(mails))

    async def run() -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False) as smtp:
            for number in left:
                await smtp.sendmail("a@example.com", [f"u{number}@example.org"], _CONTENT)

    await asyncio.gather(*(run() for _ in range(CONNECTIONS)))


async def _send_with_relay(port: int, mails: int, *, pipelining: bool) -> None:
    async def connect(address: RelayAddress) -> OpenConnection:
        opened = await open_connection(address)
        return OpenConnection(opened.transport, Abilities(pipelining=pipelining and opened.abilities.pipelining))

    done = asyncio.Event()
    left = mails

    def on_done(parcel: Parcel) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    relay = Relay(
        RelayAddress("127.0.0.1", port),
        connect,
        connections=CONNECTIONS,
        timeouts=Timeouts(),
        on_returned=lambda parcels: None,
        on_ready=lambda: None,
    )
    await relay.start()
    relay.submit(
        Parcel(b"a@example.com", [b"u%d@example.org" % number], _CONTENT, lambda: True, on_done)
        for number in range(mails)
    )
    await done.wait()
    await relay.stop()
