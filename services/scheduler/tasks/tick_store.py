"""Every SQL statement on tasks that fall due, and on their ticks. Raises DatabaseUnavailable."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scheduler.tasks.store import read_task, write_json
from services.scheduler.tasks.task import Task
from shared.cleaning import delete_chosen
from shared.database import Database, text
from shared.due import DueRow, DueTable
from shared.events import make_uuid

# What a process did not get to publish, and what somebody has asked for by hand.
TICKS = DueTable("scheduler.occurrence", where="state = 'pending'", mark="ticks = ticks + 1")

_LOOK = """
    SELECT now() AS now,
           EXISTS (SELECT FROM scheduler.task WHERE enabled AND next_due_at <= now()) AS found
"""
_DUE = text(
    """
    SELECT *, now() AS now FROM scheduler.task WHERE enabled AND next_due_at <= now()
    ORDER BY next_due_at LIMIT :limit FOR UPDATE SKIP LOCKED
    """
)
# An earlier run that nobody has been there to begin for so long stands for this one, too; one that runs does where
# the task is not to overlap.
_INSERT = text(
    """
    WITH given AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:tasks AS bigint[]), CAST(:dues AS timestamptz[]),
                             CAST(:args AS text[]), CAST(:errors AS text[]), CAST(:ends AS timestamptz[]))
               AS given(run_id, task_id, due_at, run_args, error, begin_by)),
    live AS (
        SELECT run.task_id, bool_or(run.attempt = 0 AND NOT run.by_hand
                                    AND run.scheduled_for < now() - CAST(:patience AS interval)) AS waits
        FROM scheduler.occurrence AS run
        WHERE run.state IN ('pending', 'published', 'ready', 'running') AND run.task_id = ANY(CAST(:tasks AS bigint[]))
        GROUP BY run.task_id),
    judged AS (
        SELECT given.*, coalesce(given.error, CASE
                   WHEN live.waits THEN CAST(:waiting AS text)
                   WHEN live.task_id IS NOT NULL AND task.overlap = 'skip' THEN CAST(:overlap AS text) END) AS why
        FROM given JOIN scheduler.task AS task ON task.id = given.task_id
        LEFT JOIN live ON live.task_id = given.task_id)
    INSERT INTO scheduler.occurrence
           (id, account, task_id, name, job_name, args, scheduled_for, begin_by, state, finished_at, error,
            lease_token, lease_until, ticks, max_attempts, backoff_s, time_limit_s, creator_key_id, test)
    SELECT run_id, account, task_id, name, job_name, CAST(run_args AS json), judged.due_at, begin_by,
           CASE WHEN why IS NULL THEN 'pending' ELSE 'skipped' END,
           CASE WHEN why IS NOT NULL THEN now() END, CAST(why AS json),
           CASE WHEN why IS NULL THEN CAST(:token AS uuid) END,
           CASE WHEN why IS NULL THEN now() + CAST(:lease AS interval) END,
           CASE WHEN why IS NULL THEN 1 ELSE 0 END,
           max_attempts, backoff_s, time_limit_s, creator_key_id, test
    FROM judged JOIN scheduler.task AS task ON task.id = judged.task_id ORDER BY run_id
    ON CONFLICT (id) DO NOTHING RETURNING *
    """
)
_ADVANCE = text(
    """
    UPDATE scheduler.task SET next_due_at = given.due_at
    FROM unnest(CAST(:tasks AS bigint[]), CAST(:dues AS timestamptz[])) AS given(task_id, due_at)
    WHERE task.id = given.task_id
    """
)
# What others run has ended with its tick, or failed without it ($4). A run marked ready meanwhile, by the tick itself,
# stays as it is.
_MARK_PUBLISHED = """
    WITH told AS (
        UPDATE scheduler.occurrence AS run
        SET state = CASE WHEN job_name NOT LIKE 'external:%' THEN 'published'
                         WHEN $4::text IS NULL THEN 'succeeded' ELSE 'failed' END,
            result = CASE WHEN job_name LIKE 'external:%' AND $4 IS NULL THEN '{"external": true}'::json END,
            error = CASE WHEN job_name LIKE 'external:%' THEN $4::json END,
            finished_at = CASE WHEN job_name LIKE 'external:%' THEN now() END,
            published_at = now(), due_at = now() + $3, lease_token = NULL, lease_until = NULL
        FROM unnest($1::uuid[], $2::uuid[]) AS held(id, token)
        WHERE run.id = held.id AND run.lease_token = held.token AND run.state = 'pending'
        RETURNING run.task_id, run.scheduled_for, run.state),
    latest AS (
        SELECT task_id, state, max(scheduled_for) AS due_at FROM told
        WHERE state IN ('succeeded', 'failed') GROUP BY task_id, state)
    UPDATE scheduler.task SET status = upper(latest.state), last_due_at = latest.due_at FROM latest
    WHERE task.id = latest.task_id AND coalesce(last_due_at, '-infinity') <= latest.due_at
"""
# Unnamed by whoever's own table it is not in: a record of another system, or of a task whose history is gone.
_MARK_READY = """
    WITH known AS (SELECT id FROM scheduler.occurrence WHERE id = ANY($1::uuid[])),
    marked AS (
        UPDATE scheduler.occurrence SET state = 'ready', due_at = now(), lease_token = NULL, lease_until = NULL,
               published_at = coalesce(published_at, now())
        WHERE id = ANY($1::uuid[]) AND state IN ('pending', 'published') AND job_name NOT LIKE 'external:%'
        RETURNING id)
    SELECT (SELECT count(*) FROM known) AS known, (SELECT count(*) FROM marked) AS marked
"""


@dataclass(frozen=True, slots=True)
class NewRun:
    """An occurrence to write. `error`: why it is not to run, None where it is; `begin_by`: later it was missed."""

    id: UUID
    task_id: int
    due_at: datetime
    args: Mapping[str, Any]
    error: Mapping[str, str] | None = None
    begin_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """What is to be written of some due tasks: their runs, and when each is due next."""

    runs: list[NewRun] = field(default_factory=list)
    next_due: dict[int, datetime | None] = field(default_factory=dict)


Decide = Callable[[Sequence[Task], datetime], Round]


class TickStore:
    """Due tasks and unpublished occurrences."""

    def __init__(self, database: Database, lease: timedelta, misfire_after: timedelta) -> None:
        self.database = database
        self._lease = lease
        self._misfire_after = misfire_after

    async def look(self) -> tuple[datetime, bool]:
        """PostgreSQL's time, and whether any task is due."""
        (row,) = await self.database.fetch(_LOOK)
        return row["now"], row["found"]

    async def fire(self, limit: int, decide: Decide) -> tuple[int, list[DueRow]]:
        """Lock up to `limit` due tasks, write what `decide` makes of them; one transaction.

        Returns how many tasks were due, and the rows that came of it, held by their lease where they are to be told.
        """
        async with self.database.transaction() as connection:
            rows = (await connection.execute(_DUE, {"limit": limit})).mappings().all()
            if not rows:
                return 0, []
            made = decide([read_task(row) for row in rows], rows[0]["now"])
            written = await self._insert(connection, made.runs)
            tasks = sorted(made.next_due)
            await connection.execute(_ADVANCE, {"tasks": tasks, "dues": [made.next_due[each] for each in tasks]})
        return len(rows), written

    async def _insert(self, connection: AsyncConnection, runs: Sequence[NewRun]) -> list[DueRow]:
        token = uuid4()
        given = {
            "ids": [run.id for run in runs],
            "tasks": [run.task_id for run in runs],
            "dues": [run.due_at for run in runs],
            "args": [write_json(dict(run.args)) for run in runs],
            "errors": [None if run.error is None else write_json(dict(run.error)) for run in runs],
            "ends": [run.begin_by for run in runs],
            "waiting": write_json({"class": "Misfire", "message": "an earlier run was not begun yet"}),
            "overlap": write_json({"class": "Overlap", "message": "the task was still running"}),
            "patience": self._misfire_after,
            "lease": self._lease,
            "token": token,
        }
        rows = (await connection.execute(_INSERT, given)).mappings().all()
        return [DueRow(make_uuid(row["id"].int), token, dict(row)) for row in rows]

    async def mark_published(
        self, rows: Sequence[DueRow], patience: timedelta, refused: Mapping[str, str] | None = None
    ) -> None:
        """The broker has acknowledged these ticks. A run whose tick does not come back within `patience` begins.

        `refused`: it never takes them, and why; then what others are to run has failed.
        """
        ids, tokens = [row.id for row in rows], [row.token for row in rows]
        error = None if refused is None else write_json(dict(refused))
        await self.database.fetch(_MARK_PUBLISHED, ids, tokens, patience, error)

    async def mark_ready(self, ids: Sequence[UUID]) -> tuple[int, int]:
        """These ticks have come back: how many of them are ours, and how many runs may begin by that."""
        (row,) = await self.database.fetch(_MARK_READY, sorted(set(ids)))
        return row["known"], row["marked"]

    async def delete_ended(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` runs that ended longer ago than `kept`."""
        chosen = """
            SELECT ctid FROM scheduler.occurrence WHERE finished_at < now() - $1::interval ORDER BY finished_at LIMIT $2
        """
        return await delete_chosen(self.database, "scheduler.occurrence", chosen, kept, limit)
