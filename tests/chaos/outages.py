"""Real servers taken away and given back: stopped in order, or frozen in the middle of whatever they did."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import psutil

from tests.support.servers import RealServers

Outage = Callable[[float], Awaitable[None]]
"""Takes a server away for so many seconds and returns when it answers again."""


async def stop_postgres(servers: RealServers, away_s: float) -> None:
    """Fast shutdown, which drops every client, and a start `away_s` later."""
    postgres = servers.postgres()
    began = time.monotonic()
    await asyncio.to_thread(postgres.stop)
    await asyncio.sleep(max(0.0, away_s - (time.monotonic() - began)))
    await asyncio.to_thread(postgres.prepare)
    postgres.start()  # in the main thread: the child is tied to the thread that starts it
    await asyncio.to_thread(postgres.wait_until_ready)


async def freeze_postgres(servers: RealServers, away_s: float) -> None:
    """SIGSTOP to every process of it, SIGCONT `away_s` later: connections stay, nothing answers."""
    pid = servers.postgres().pid
    assert pid
    await freeze(pid, away_s)


async def stop_kafka(servers: RealServers, away_s: float) -> None:
    """Orderly shutdown of the broker, and a start `away_s` after it has ended."""
    kafka = servers.kafka()
    await asyncio.to_thread(kafka.stop)
    await asyncio.sleep(away_s)
    kafka.start()
    await asyncio.to_thread(kafka.wait_until_ready)


async def freeze_kafka(servers: RealServers, away_s: float) -> None:
    """SIGSTOP to the broker, SIGCONT `away_s` later."""
    pid = servers.kafka().pid
    assert pid
    await freeze(pid, away_s)


async def freeze(pid: int, away_s: float) -> None:
    """Stop a process and all its children for a while."""
    async with frozen(pid):
        await asyncio.sleep(away_s)


@asynccontextmanager
async def frozen(pid: int) -> AsyncIterator[None]:
    """A process and all its children stand still meanwhile."""
    parent = psutil.Process(pid)
    # The parent first, so that it has no further children.
    parent.send_signal(signal.SIGSTOP)
    children = parent.children(recursive=True)
    try:
        for child in children:
            child.send_signal(signal.SIGSTOP)
        yield
    finally:
        for each in [*children, parent]:
            each.send_signal(signal.SIGCONT)
