"""Wait until every process answers that it is ready."""

import asyncio
import time
from collections.abc import Callable

import aiohttp

from deploy.local.errors import StackError
from deploy.local.ports import LOOPBACK
from deploy.local.supervisor import Command


async def ask_readiness(session: aiohttp.ClientSession, port: int) -> tuple[bool, str]:
    """Ask ``/readyz`` of one port; gives whether it is ready, and otherwise what it said."""
    try:
        async with session.get(f"http://{LOOPBACK}:{port}/readyz", timeout=aiohttp.ClientTimeout(3)) as answer:
            return answer.status == 200, (await answer.text())[:500]
    except (aiohttp.ClientError, TimeoutError) as exc:
        return False, f"no answer ({type(exc).__name__})"


async def wait_until_ready(
    commands: list[Command], *, timeout_s: float, find_failure: Callable[[str], str | None]
) -> None:
    """Wait for all. Raises StackError naming those that are not ready in time, with their reasons.

    A process for which ``find_failure`` has a reason is not waited for.
    """
    deadline = time.monotonic() + timeout_s

    async def wait_for(command: Command) -> str | None:
        while True:
            ready, said = await ask_readiness(session, command.port)
            if ready:
                return None
            failure = find_failure(command.name)
            if failure is not None or time.monotonic() > deadline:
                return f"{command.name}: {failure or said}"
            await asyncio.sleep(0.1)

    async with aiohttp.ClientSession() as session:
        answers = await asyncio.gather(*(wait_for(command) for command in commands))
    late = [answer for answer in answers if answer is not None]
    if late:
        raise StackError("not ready:\n  " + "\n  ".join(late))
