"""The yardstick Celery 5 + Redis + Django's EmailMultiAlternatives, two worker processes."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.bench.environments import YARDSTICKS, prepare_environment
from tests.bench.figures import Figures
from tests.bench.mails import write_mails
from tests.bench.programs import Running, run_program
from tests.bench.redis import run_redis
from tests.bench.sink import Sink, run_counting_sink
from tests.bench.watching import WARM_UP, Stopwatch, wait_count

WORKERS = 2
_APP = YARDSTICKS / "celery_app.py"
_FIRST = 10  # mails that wake the workers, before the clock starts
_ENQUEUE_S = 300


async def drain_celery(mails: int) -> Figures:
    """All mails are enqueued before the workers start."""
    with _surroundings() as (python, env, sink), write_mails(mails) as file:
        run_program([python, _APP, file], env, timeout_s=_ENQUEUE_S)
        with _run_workers(python, env) as workers:
            begun = await wait_count(sink.count, int(mails * WARM_UP), "mails at the sink", [workers])
            watch = Stopwatch([workers], begun)
            await wait_count(sink.count, mails, "mails at the sink", [workers])
            return watch.read(mails)


async def send_through_celery(mails: int) -> Figures:
    """From the first `delay()` to the last mail at the sink; the workers are up."""
    with (
        _surroundings() as (python, env, sink),
        write_mails(_FIRST) as first,
        write_mails(mails) as file,
        _run_workers(python, env) as workers,
    ):
        run_program([python, _APP, first], env, timeout_s=_ENQUEUE_S)
        await wait_count(sink.count, _FIRST, "mails at the sink", [workers])
        with Running([python, _APP, file], env) as enqueuer:
            begun = await wait_count(sink.count, _FIRST + 1, "mails at the sink", [workers, enqueuer])
            watch = Stopwatch([workers], begun)
            done = await wait_count(sink.count, _FIRST + mails, "mails at the sink", [workers, enqueuer])
            return watch.read(done)


@contextmanager
def _surroundings() -> Iterator[tuple[Path, Mapping[str, str], Sink]]:
    python = prepare_environment("celery")
    with run_redis() as url, run_counting_sink() as sink:
        env = {
            **os.environ,
            "PYTHONPATH": str(YARDSTICKS),
            "BENCH_REDIS_URL": url,
            "BENCH_SMTP_PORT": str(sink.port),
        }
        yield python, env, sink


@contextmanager
def _run_workers(python: Path, env: Mapping[str, str]) -> Iterator[Running]:
    quiet = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    command: list[str | Path] = [
        python,
        "-m",
        "celery",
        "-A",
        "celery_app",
        "worker",
        "--concurrency",
        str(WORKERS),
        *quiet,
    ]
    with Running(command, env, grace_s=10) as workers:
        yield workers
