"""The scheduler's worker is asked to end while it still starts, at one moment after another."""

import asyncio
import contextlib
import signal

import httpx

from tests.support.services import ServiceProcess, ServiceRunner

AFTER_FORK_S = (0.0, 0.2)
AFTER_HEALTH_S = (0.0, 0.05, 0.15, 0.3)  # it is there, and joins
_DRAIN_S = 20


async def end_early(services: ServiceRunner, slot: int, after_s: float, *, listens: bool) -> ServiceProcess:
    """Fails where it has not ended in time. All are of one group, so that joining it takes its time."""
    worker = services.start("services.scheduler", "worker", env={"MILENA_SLOT": str(slot)})
    if listens:
        await wait_alive(worker)
    await asyncio.sleep(after_s)
    worker.terminate()
    await worker.wait_exit(_DRAIN_S)
    return worker


async def wait_alive(worker: ServiceProcess) -> None:
    async with httpx.AsyncClient() as client:
        while worker.returncode is None:
            with contextlib.suppress(httpx.HTTPError):
                await client.get(f"{worker.url}/healthz")
                return
            await asyncio.sleep(0.01)


async def test_a_worker_that_is_asked_to_end_while_it_starts_ends_in_time_and_cleanly(services: ServiceRunner) -> None:
    moments = [*((each, False) for each in AFTER_FORK_S), *((each, True) for each in AFTER_HEALTH_S)]
    ends = (end_early(services, slot, after_s, listens=listens) for slot, (after_s, listens) in enumerate(moments))
    ended = await asyncio.gather(*ends)
    for worker, (_, listens) in zip(ended, moments, strict=True):
        said = worker.read_log()
        assert "Traceback" not in said
        assert "Unclosed AIOKafkaConsumer" not in said
        if worker.returncode == -signal.SIGTERM and not listens:
            assert said == ""  # nothing of it had begun, and the signal ended it by itself
        else:
            assert worker.returncode == 0, said
