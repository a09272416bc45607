"""Runs at work in this process: begun when they are leased, held by a heartbeat, ended by what the job did."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError

from services.scheduler.runs.endings import Ending, fail, fail_args, interrupt, postpone, say, skip, succeed
from services.scheduler.runs.job import Job, JobContext, Tools
from services.scheduler.runs.store import RunStore
from services.scheduler.runs.threads import JobThreads, TimeLimitExceeded
from services.scheduler.tasks.task import Creator
from shared.database import Database
from shared.due import DueRow, DueTable
from shared.events import make_uuid
from shared.metrics import RUN_LATENESS_SECONDS, RUNS_AT_WORK, RUNS_ENDED, RUNS_TAKEN_OVER, observe_all
from shared.retrying import Unavailable
from shared.stage import Stage

log = structlog.get_logger(__name__)

_MOST_DEATHS = 5  # processes that one run may end before it is taken for the cause


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """How runs are held: at most `concurrency` at once, each under `lease`, for `time_limit_s` where nobody says.

    `drain_s`: how long a process that stops waits for them.
    """

    concurrency: int
    lease: timedelta
    time_limit_s: float
    drain_s: float


class Runs:
    """A part of a process: begins leased runs, renews their leases, and writes how they ended.

    After its start, and after PostgreSQL was out of reach, it is cautious for one lease: whoever lives renews first.
    """

    def __init__(
        self,
        database: Database,
        store: RunStore,
        jobs: Mapping[str, Job],
        defaults: Mapping[str, Mapping[str, Any]],
        tools: Tools,
        threads: JobThreads,
        policy: RunPolicy,
    ) -> None:
        self._database = database
        self._store = store
        self._jobs = jobs
        self._defaults = defaults
        self._tools = tools
        self._threads = threads
        self._policy = policy
        self._table = DueTable("scheduler.occurrence")
        self._held: dict[UUID, tuple[DueRow, asyncio.Task[None]]] = {}
        self._settling = Stage[Ending]("runs", self._settle, self._on_bug, limit=500, linger_s=0.005)
        self._heart: asyncio.Task[None] | None = None
        self._stopping = False
        self._losses = 0
        self._calm_since = time.monotonic()
        self.on_room: Callable[[], None] = lambda: None

    # --- taking runs on ---

    def find_room(self) -> int:
        """How many runs may be begun now; stuck threads take up room."""
        return 0 if self._stopping else self._policy.concurrency - len(self._held) - self._threads.stuck

    def is_cautious(self) -> bool:
        """Whether a run whose lease has ended may still belong to somebody who lives."""
        return time.monotonic() - self._calm_since < self._policy.lease.total_seconds()

    async def begin(self, rows: Sequence[DueRow]) -> None:
        """Start what was leased.

        A job begins once its task has been given the status RUNNING: else a short one has ended by then, and the
        status would stay.
        """
        shown = asyncio.ensure_future(self._store.show_running(rows))
        lateness = []
        for row in rows:
            if row.columns["taken_over"]:
                RUNS_TAKEN_OVER.inc()
                log.warning("run taken over", occurrence_id=str(row.id), attempt=row.columns["attempt"])
            if row.columns["attempt"] == 1:
                late = row.columns["started_at"] - row.columns["scheduled_for"]
                lateness.append(max(0.0, late.total_seconds()))
            self._held[row.id] = (row, asyncio.create_task(self._run(row, shown)))
        observe_all(RUN_LATENESS_SECONDS, lateness)
        RUNS_AT_WORK.set(len(self._held))
        await shown

    async def _run(self, row: DueRow, shown: asyncio.Future[None]) -> None:
        with structlog.contextvars.bound_contextvars(occurrence_id=str(row.id), job=row.columns["job_name"]):
            try:
                await asyncio.wait([shown])  # it may fail: what is shown is not worth a run
                ending = _refuse(row) or await self._call(row)
            except asyncio.CancelledError:
                if not self._holds(row):
                    return  # it is somebody else's now
                ending = interrupt(row)
            except Unavailable as exc:
                log.warning("run waits", error=str(exc))
                ending = postpone(row, str(exc))
            except Exception as exc:
                log.exception("run failed", attempt=row.columns["attempt"])
                ending = fail(row, type(exc).__name__, say(exc), retry=True)
            self._settling.put(ending)

    async def _call(self, row: DueRow) -> Ending:
        columns = row.columns
        name = columns["job_name"]
        job = self._jobs.get(name)
        if job is None:
            log.error("unknown job", known=sorted(self._jobs))
            return fail(row, "UnknownJob", f"no job is named {name!r} here; GET /v1/jobs lists those there are")
        try:
            args = job.read_args(columns["args"], self._defaults.get(name))
        except ValidationError as exc:
            return fail_args(row, exc)
        limit_s = columns["time_limit_s"] or job.time_limit_s or self._policy.time_limit_s
        try:
            returned = await self._threads.call(job, job.bind(args, _tell(row), self._tools), limit_s)
        except TimeLimitExceeded as exc:
            log.error("run exceeded its time limit", limit_s=limit_s)
            return fail(row, "TimeLimitExceeded", str(exc), retry=True)
        return succeed(row, returned)

    # --- ending them ---

    async def _settle(self, endings: list[Ending]) -> None:
        await self._store.settle(endings)
        for ending in endings:
            self._let_go(ending.row)
            RUNS_ENDED.labels(outcome=ending.outcome).inc()
        RUNS_AT_WORK.set(len(self._held))
        self.on_room()

    def _on_bug(self, ending: Ending, exc: Exception) -> None:
        """What cannot be written is let go of, and comes again after its lease."""
        self._let_go(ending.row)

    # --- holding them meanwhile ---

    async def start(self) -> None:
        """Begin settling and renewing."""
        self._settling.start()
        self._heart = asyncio.create_task(self._beat(), name="runs-heartbeat")

    async def stop(self) -> None:
        """Begin nothing more, let jobs end for a while, give back those that do not."""
        self._stopping = True
        await self._wait_empty(self._policy.drain_s)
        for _, task in list(self._held.values()):
            task.cancel()
        await self._wait_empty(5.0)
        if self._heart:
            self._heart.cancel()
            await asyncio.wait([self._heart])
        await self._settling.stop()

    def _holds(self, row: DueRow) -> bool:
        """Under this very lease."""
        held = self._held.get(row.id)
        return held is not None and held[0] is row

    def _let_go(self, row: DueRow) -> None:
        if self._holds(row):
            del self._held[row.id]

    async def _wait_empty(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while self._held and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    async def _beat(self) -> None:
        pause_s = self._policy.lease.total_seconds() / 3
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(min(1.0, pause_s))
            self._threads.watch()
            if time.monotonic() - renewed < pause_s:
                continue
            renewed = time.monotonic()
            try:
                await self._renew()
            except Unavailable as exc:
                self._calm_since = time.monotonic()
                log.warning("leases could not be renewed", runs=len(self._held), error=str(exc))
            except Exception:
                log.exception("leases could not be renewed")

    async def _renew(self) -> None:
        if self._database.losses != self._losses:
            self._losses, self._calm_since = self._database.losses, time.monotonic()
        rows = [row for row, _ in self._held.values()]
        if not rows:
            return
        kept = {make_uuid(each.int) for each in await self._table.renew(self._database, rows, self._policy.lease)}
        for row in rows:
            if make_uuid(row.id.int) not in kept and self._holds(row) and not self._held[row.id][1].done():
                log.warning("run lost to another process", occurrence_id=str(row.id))
                self._held.pop(row.id)[1].cancel()


def _refuse(row: DueRow) -> Ending | None:
    """A run that is not to be begun: it killed too many processes, or its due time has passed too long ago."""
    columns = row.columns
    if columns["deaths"] >= _MOST_DEATHS:
        log.error("run given up, its processes died", deaths=columns["deaths"])
        return fail(row, "ProcessDied", f"{columns['deaths']} processes ended while they ran it")
    begin_by = columns["begin_by"]
    if begin_by and columns["attempt"] == 1 and columns["started_at"] > begin_by:
        return skip(row, "Misfire", "it could not be begun in time")
    return None


def _tell(row: DueRow) -> JobContext:
    columns = row.columns
    return JobContext(
        occurrence_id=make_uuid(row.id.int),
        attempt=columns["attempt"],
        account=columns["account"],
        task_id=columns["task_id"],
        name=columns["name"],
        scheduled_for=columns["scheduled_for"],
        creator=Creator(columns["creator_key_id"], None, columns["test"]),
    )
