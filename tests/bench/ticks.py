"""Tasks that all fall due in one moment: fired, told on `schedule.tick`, run to their end."""

import os

import asyncpg

from tests.bench.figures import Figures
from tests.bench.programs import measure_cpu_s
from tests.bench.senders import Share, take_share
from tests.bench.watching import wait_count
from tests.support.servers import RealServers
from tests.support.tasks import THIRD_PARTY

_WARM_UP = 200
_MAKE = """
    INSERT INTO scheduler.task (account, name, job_name, args, recurring_interval, timezone, enabled, misfire, overlap,
                                max_attempts, backoff_s, test)
    SELECT 'default', $2 || number, 'shop.add', '{"a": 1}', 'EVERY_YEAR', 'UTC', true, 'run_once', 'allow', 1, 30, false
    FROM generate_series(1, $1) AS number
"""
_LET_FALL_DUE = "UPDATE scheduler.task SET next_due_at = now() WHERE name LIKE $1 || '%'"
_READ = """
    SELECT extract(epoch FROM max(published_at) - min(scheduled_for))::float AS told_s,
           extract(epoch FROM max(finished_at) - min(scheduled_for))::float AS done_s,
           extract(epoch FROM percentile_disc(0.99) WITHIN GROUP (ORDER BY started_at - scheduled_for))::float AS late_s
    FROM scheduler.occurrence WHERE name LIKE 'task %'
"""
_COUNT = "SELECT count(*) FROM scheduler.occurrence WHERE state = 'succeeded'"


async def run_tasks(servers: RealServers, tasks: int) -> Figures:
    """One worker and one job runner; the clock runs from the due time, by PostgreSQL's."""
    with take_share(servers) as share:
        worker = share.runner.start("services.scheduler", "worker")
        path = os.pathsep.join([*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(THIRD_PARTY)])
        jobs = share.runner.start("services.scheduler", "jobs", env={"PYTHONPATH": path})
        for process in (worker, jobs):
            await process.wait_ready(60)
        connection = await asyncpg.connect(share.stack.database_url)
        try:
            return await _measure(share, connection, tasks, [worker.pid, jobs.pid])
        finally:
            await connection.close()


async def _measure(share: Share, connection: asyncpg.Connection, tasks: int, pids: list[int]) -> Figures:
    await connection.execute(_MAKE, _WARM_UP, "warm-up ")
    await connection.execute(_MAKE, tasks, "task ")
    await connection.execute(_LET_FALL_DUE, "warm-up ")
    await wait_count(lambda: connection.fetchval(_COUNT), _WARM_UP, "runs", [])
    cpu_s = measure_cpu_s(pids)
    await connection.execute(_LET_FALL_DUE, "task ")
    await wait_count(lambda: connection.fetchval(_COUNT), _WARM_UP + tasks, "runs", [])
    row = await connection.fetchrow(_READ)
    assert row is not None, "they have run"
    return {
        "ticks_per_s": tasks / row["told_s"],
        "runs_per_s": tasks / row["done_s"],
        "late_p99_ms": row["late_s"] * 1000,
        "cpu_us": (measure_cpu_s(pids) - cpu_s) / tasks * 1e6,
    }
