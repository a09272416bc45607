"""A thousand tasks due every minute, run by three schedulers, one process of which is killed every five seconds.

In the table a run stands for a mail: `sent` are those that succeeded, `doubles` beginnings beyond the first. The job
itself writes down each of its runs, beside whatever the scheduler writes.
"""

import asyncio
import os
import random
import time
from datetime import timedelta
from typing import Any

from tests.chaos.rig import Rig, wait_until
from tests.chaos.verdict import Verdict
from tests.support.records import TopicReader
from tests.support.supervised import Supervised
from tests.support.tasks import THIRD_PARTY

LATENESS_LIMIT_S = 3.0
TAKEOVER_LIMIT_S = 30.0  # a restart, the lease, and a place in the queue
_SCHEDULERS = 3
_PREPARE = (
    "CREATE TABLE public.ran (occurrence_id uuid NOT NULL, attempt int NOT NULL, pid int NOT NULL)",
    """
    INSERT INTO scheduler.task (account, name, job_name, args, recurring_interval, timezone, enabled, misfire, overlap,
                                max_attempts, backoff_s, test, next_due_at)
    SELECT 'default', 'task ' || number, 'shop.record', '{}', 'EVERY_MINUTE', 'UTC', true, 'run_once', 'allow', 1, 30,
           false, date_trunc('minute', now() + $2) + interval '1 minute'
    FROM generate_series(1, $1) AS number
    """,
)
_STOP = "UPDATE scheduler.task SET enabled = false RETURNING next_due_at"
_JUDGE = """
    SELECT count(*) AS runs, count(DISTINCT (task_id, scheduled_for)) AS due_times,
           count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE NOT EXISTS (SELECT FROM public.ran WHERE occurrence_id = run.id)) AS never_ran,
           count(*) FILTER (WHERE deaths > 0 OR ticks > 1) AS taken_over,
           coalesce(max(started_at - scheduled_for) FILTER (WHERE deaths > 0 OR ticks > 1), interval '0') AS worst,
           percentile_disc(0.99) WITHIN GROUP (ORDER BY started_at - scheduled_for)
               FILTER (WHERE deaths = 0 AND ticks = 1) AS p99,
           max(started_at - scheduled_for) FILTER (WHERE deaths = 0 AND ticks = 1) AS slowest,
           percentile_disc(0.99) WITHIN GROUP (ORDER BY created_at - scheduled_for) AS fired,
           percentile_disc(0.99) WITHIN GROUP (ORDER BY published_at - scheduled_for)
               FILTER (WHERE ticks = 1) AS told
    FROM scheduler.occurrence AS run
"""
_MINUTES = """
    SELECT count(*) FILTER (WHERE found <> $1) AS short, count(*) AS minutes
    FROM (SELECT count(*) AS found FROM scheduler.occurrence GROUP BY scheduled_for) AS minute
"""
_DOUBLES = """
    SELECT coalesce(sum(ran.times - 1), 0) AS doubles,
           count(*) FILTER (WHERE ran.times > run.attempt) AS hidden
    FROM (SELECT occurrence_id, count(*) AS times FROM public.ran GROUP BY 1) AS ran
    JOIN scheduler.occurrence AS run ON run.id = ran.occurrence_id
"""


async def kill_schedulers(
    rig: Rig, *, tasks: int = 1000, lasting_s: float = 180.0, every_s: float = 5.0, seed: int = 0
) -> Verdict:
    """Kill a process drawn at random every `every_s` seconds; each due time must come to one success."""
    draw = random.Random(seed)
    schedulers = await _start(rig)
    for statement in _PREPARE:
        await rig.fetch(statement, *((tasks, timedelta(seconds=2)) if "$1" in statement else ()))
    began = time.monotonic()
    async with TopicReader(rig.stack.bootstrap_servers, rig.stack.topics.tick) as reader:
        while time.monotonic() - began < lasting_s:
            await asyncio.sleep(every_s)
            draw.choice(schedulers).kill()
            rig.kills += 1
        await _wait_for_a_quiet_second(rig)
        await rig.fetch(_STOP)
        finished = await _wait_ended(rig)
        ticks = await _read_ticks(rig, reader)
    return await _judge(rig, tasks, finished, ticks)


async def _start(rig: Rig) -> list[Supervised]:
    path = os.pathsep.join([*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(THIRD_PARTY)])
    started = []
    for slot in range(_SCHEDULERS):
        env = {"MILENA_SLOT": str(slot), "PYTHONPATH": path, "SHOP_DATABASE_URL": rig.stack.database_url}
        for command in ("worker", "jobs"):
            started.append(await rig.start_other("services.scheduler", command, **env))
    return started


async def _wait_for_a_quiet_second(rig: Rig) -> None:
    """In the middle of a minute, so that no task is stopped between its due time and its run."""

    async def is_quiet() -> bool:
        (row,) = await rig.fetch("SELECT extract(second FROM now()) AS second")
        return bool(20 < row["second"] < 40)

    await wait_until(is_quiet, 70, "the middle of a minute", every_s=1)


async def _wait_ended(rig: Rig) -> bool:
    async def ended() -> bool:
        (row,) = await rig.fetch("SELECT count(*) AS live FROM scheduler.occurrence WHERE finished_at IS NULL")
        return bool(row["live"] == 0)

    try:
        await wait_until(ended, 90, "the last run", every_s=0.25)
    except AssertionError:
        return False
    return True


async def _read_ticks(rig: Rig, reader: TopicReader) -> set[str]:
    """The occurrences that were told; what is missing is waited for a little."""
    (row,) = await rig.fetch("SELECT count(*) AS runs FROM scheduler.occurrence")
    for _ in range(100):
        told = {each.data["occurrence_id"] for each in reader.seen}
        if len(told) >= row["runs"]:
            break
        await asyncio.sleep(0.1)
    return told


async def _judge(rig: Rig, tasks: int, finished: bool, ticks: set[str]) -> Verdict:
    (runs,), (minutes,), (doubles,) = (
        await rig.fetch(_JUDGE),
        await rig.fetch(_MINUTES, tasks),
        await rig.fetch(_DOUBLES),
    )
    verdict = Verdict(
        f"{tasks} tasks due every minute, a process of three schedulers killed every five seconds",
        mails=tasks * minutes["minutes"],
        sent=runs["succeeded"],
        lost=runs["never_ran"],
        doubles=int(doubles["doubles"]),
        hidden_doubles=doubles["hidden"],
        takeovers=runs["taken_over"],
        kills=rig.kills,
        restarts=sum(each.restarts for each in rig.others) - rig.kills,
        seconds=time.monotonic() - rig.started,
    )
    verdict.require(finished, "runs had not ended 90 s after the last due time")
    verdict.require(
        minutes["short"] == 0, f"in {minutes['short']} of {minutes['minutes']} minutes due times are missing"
    )
    verdict.require(runs["due_times"] == runs["runs"], "a due time has two occurrences")
    verdict.require(ticks == await _list_ids(rig), "ticks and occurrences are not the same")
    verdict.require_nothing_lost()
    _judge_lateness(verdict, runs)
    return verdict


async def _list_ids(rig: Rig) -> set[str]:
    return {str(row["id"]) for row in await rig.fetch("SELECT id FROM scheduler.occurrence")}


def _judge_lateness(verdict: Verdict, runs: Any) -> None:
    names = ("p99", "slowest", "worst", "fired", "told")
    p99, slowest, worst, fired, told = (runs[name].total_seconds() for name in names)
    verdict.notes.append(
        f"p99 after the due time: {fired:.2f} s to fire, {told:.2f} s to tell, {p99:.2f} s to begin "
        f"({slowest:.2f} s at most); {runs['taken_over']} were taken over, within {worst:.1f} s"
    )
    verdict.require(p99 <= LATENESS_LIMIT_S, f"p99 of the lateness is {p99:.2f} s")
    verdict.require(worst <= TAKEOVER_LIMIT_S, f"a run that was taken over began {worst:.1f} s late")
