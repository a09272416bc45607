"""Wait until every process answers that it is ready."""

import asyncio
import time
from collections.abc import Callable

import aiohttp

from deploy.local.errors import StackError
from deploy.local.ports import LOOPBACK
from deploy.local.supervisor import Command


def open_session(timeout_s: float = 3) -> aiohttp.ClientSession:
    """A session for the stack's own addresses. No certificate is verified: it is for the name that others use."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False), timeout=aiohttp.ClientTimeout(timeout_s))


async def ask_readiness(session: aiohttp.ClientSession, port: int, base_url: str) -> tuple[bool, str]:
    """Ask ``/readyz`` of one port, that of ``base_url`` or a worker's: is it ready, and otherwise what did it say."""
    origin = base_url if base_url.endswith(f":{port}") else f"http://{LOOPBACK}:{port}"
    try:
        async with session.get(f"{origin}/readyz") as answer:
            return answer.status == 200, (await answer.text())[:500]
    except (aiohttp.ClientError, TimeoutError) as exc:
        return False, f"no answer ({type(exc).__name__})"


async def wait_until_ready(
    commands: list[Command], base_url: str, *, timeout_s: float, find_failure: Callable[[str], str | None]
) -> None:
    """Wait for all. Raises StackError naming those that are not ready in time, with their reasons.

    A process for which ``find_failure`` has a reason is not waited for.
    """
    deadline = time.monotonic() + timeout_s

    async def wait_for(command: Command) -> str | None:
        while True:
            ready, said = await ask_readiness(session, command.port, base_url)
            if ready:
                return None
            failure = find_failure(command.name)
            if failure is not None or time.monotonic() > deadline:
                return f"{command.name}: {failure or said}"
            await asyncio.sleep(0.1)

    async with open_session() as session:
        answers = await asyncio.gather(*(wait_for(command) for command in commands))
    late = [answer for answer in answers if answer is not None]
    if late:
        raise StackError("not ready:\n  " + "\n  ".join(late))
