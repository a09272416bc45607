"""Jobs of somebody else's package, as they are after `pip install`."""

import asyncio
import os
import threading
import time

import asyncpg
from pydantic import BaseModel, Field

from services.scheduler.jobs import JobContext, job


class Numbers(BaseModel):
    """Two numbers."""

    a: int
    b: int = Field(default=1, ge=0)


class Sum(BaseModel):
    """Their sum."""

    total: int
    attempt: int


@job("shop.add")
async def add(args: Numbers, context: JobContext) -> Sum:
    """Add two numbers."""
    return Sum(total=args.a + args.b, attempt=context.attempt)


def double(args: Numbers) -> int:
    """Registered by its entry point alone."""
    return 2 * args.a


@job("shop.plain")
def plain() -> str:
    """Tell in which thread a plain function runs."""
    return threading.current_thread().name


class Patience(BaseModel):
    """For how long."""

    seconds: float = 3600


@job("shop.sleep")
async def sleep(args: Patience, context: JobContext) -> int:
    """Wait, politely, the first time only."""
    if context.attempt == 1:
        await asyncio.sleep(args.seconds)
    return context.attempt


@job("shop.hang")
def hang(args: Patience) -> None:
    """Wait in a thread that nobody can end."""
    time.sleep(args.seconds)


@job("shop.block")
async def block(args: Patience) -> None:
    """Wait as an async function never should."""
    time.sleep(args.seconds)


class Failing(BaseModel):
    """How often to fail."""

    times: int = 99


@job("shop.fail")
async def fail(args: Failing, context: JobContext) -> str:
    """Fail some times."""
    if context.attempt <= args.times:
        raise LookupError("no such customer")
    return "found"


class Notebook:
    """A table of the shop's own."""

    def __init__(self) -> None:
        self._pool: asyncio.Task[asyncpg.Pool] | None = None

    async def write(self, *values: object) -> None:
        """One line; all who write share two connections."""
        if self._pool is None:
            self._pool = asyncio.create_task(_connect())
        await (await self._pool).execute(
            "INSERT INTO public.ran (occurrence_id, attempt, pid) VALUES ($1, $2, $3)", *values
        )


async def _connect() -> asyncpg.Pool:
    return await asyncpg.create_pool(os.environ["SHOP_DATABASE_URL"], min_size=1, max_size=2)


_notebook = Notebook()


@job("shop.record")
async def record(context: JobContext) -> None:
    """Write down that it ran, apart from whatever Milena writes."""
    await _notebook.write(context.occurrence_id, context.attempt, os.getpid())
