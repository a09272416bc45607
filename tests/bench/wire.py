"""The SMTP conversation alone: ours pipelined, ours in lock-step, and aiosmtplib command by command."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiosmtplib

from services.sender.connecting import OpenConnection, RelayAddress, open_connection
from services.sender.conversation import Abilities, Timeouts
from services.sender.parcel import Parcel
from services.sender.relay import Relay
from tests.bench.figures import Figures
from tests.bench.sink import run_sink

CONNECTIONS = 8
_PATIENCE_S = 120.0
_CONTENT = b"Subject: bench\r\n\r\n" + b"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do.\r\n" * 30


async def send_with_library(mails: int) -> Figures:
    """aiosmtplib's `sendmail`, one command after another."""
    return await _measure(mails, lambda port: _send_with_library(port, mails))


async def send_in_lockstep(mails: int) -> Figures:
    """Our conversation with a relay that does not offer PIPELINING."""
    return await _measure(mails, lambda port: _send_with_relay(port, mails, pipelining=False))


async def send_pipelined(mails: int) -> Figures:
    """Our conversation as it is (RFC 2920)."""
    return await _measure(mails, lambda port: _send_with_relay(port, mails, pipelining=True))


async def _measure(mails: int, send: Callable[[int], Awaitable[None]]) -> Figures:
    """CPU is this process's, user and system."""
    with run_sink() as port:
        started, cpu = time.monotonic(), time.process_time()
        async with asyncio.timeout(_PATIENCE_S):
            await send(port)
        seconds, used = time.monotonic() - started, time.process_time() - cpu
    return {"mails_per_s": mails / seconds, "cpu_us": used / mails * 1e6}


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
