"""Every SQL statement on runs that the API needs. Raises DatabaseUnavailable."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.scheduler.runs.occurrence import Occurrence, OccurrenceState
from services.scheduler.tasks.store import LOCK_TASK, write_json
from services.scheduler.tasks.task import Creator
from shared.database import Database, DatabaseUnavailable, text
from shared.events import make_uuid, new_email_id

_FIND_RUN = text("SELECT * FROM scheduler.occurrence WHERE id = :run_id")
_RUN_TASK = text(
    """
    WITH live AS (
        SELECT FROM scheduler.occurrence JOIN scheduler.task ON task_id = task.id AND task.overlap = 'skip'
        WHERE task.id = :task_id AND state IN ('pending', 'published', 'ready', 'running') LIMIT 1),
    busy AS (SELECT EXISTS (SELECT FROM live) AS is_so)
    INSERT INTO scheduler.occurrence
           (id, account, task_id, name, job_name, args, scheduled_for, by_hand, state, finished_at, error,
            max_attempts, backoff_s, time_limit_s, creator_key_id, test)
    SELECT :run_id, account, id, name, job_name, args, now(), true,
           CASE WHEN busy.is_so THEN 'skipped' ELSE 'pending' END,
           CASE WHEN busy.is_so THEN now() END,
           CASE WHEN busy.is_so THEN json_build_object('class', 'Overlap', 'message', 'the task was still running') END,
           max_attempts, backoff_s, time_limit_s, creator_key_id, test
    FROM scheduler.task, busy WHERE id = :task_id RETURNING *
    """
)
_RUN_JOB = """
    INSERT INTO scheduler.occurrence
           (id, account, name, job_name, args, scheduled_for, by_hand, state, max_attempts, backoff_s, time_limit_s,
            creator_key_id, test)
    VALUES ($1, $2, $3, $3, $4, now(), true, 'ready', $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING RETURNING *
"""
_LIST = """
    SELECT * FROM scheduler.occurrence WHERE account = $1 AND task_id = $2
      AND ($3::timestamptz IS NULL OR (scheduled_for, id) < ($3, $4))
    ORDER BY scheduled_for DESC, id DESC LIMIT $5
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """A run of a job that somebody asks for, without a task."""

    job_name: str
    args: Mapping[str, Any]
    creator: Creator
    max_attempts: int = 1
    backoff_s: float = 30
    time_limit_s: float | None = None


class OccurrenceStore:
    """The table `scheduler.occurrence`, as accounts see it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run_task(self, account: str, task_id: int, run_id: UUID | None = None) -> Occurrence | None:
        """Ask for a run of a task now; None where there is no such task.

        Where the task runs and is not to overlap, the run is `skipped` from the beginning. Where there is a run of
        this id already, that is the run.
        """
        async with self._database.transaction() as connection:
            locked = await connection.execute(LOCK_TASK, {"account": account, "task_id": task_id})
            if locked.first() is None:
                return None
            run_id = run_id or new_email_id()
            known = (await connection.execute(_FIND_RUN, {"run_id": run_id})).mappings().first()
            if known is None:
                rows = await connection.execute(_RUN_TASK, {"run_id": run_id, "task_id": task_id})
                known = rows.mappings().one()
            return read_occurrence(known)

    async def run_job(self, account: str, run: JobRun, run_id: UUID | None = None) -> Occurrence:
        """Ask for a run of a job now; where there is a run of this id already, that is the run."""
        run_id = run_id or new_email_id()
        limits = (run.max_attempts, run.backoff_s, run.time_limit_s)
        creator = (run.creator.key_id, run.creator.test)
        args = write_json(dict(run.args))
        rows = await self._database.fetch(_RUN_JOB, run_id, account, run.job_name, args, *limits, *creator)
        if rows:
            return read_occurrence(rows[0])
        known = await self.find(account, run_id)
        if known is None:
            raise DatabaseUnavailable("postgresql: a run was deleted while it was asked for again")
        return known

    async def find(self, account: str, run_id: UUID) -> Occurrence | None:
        """One run of this account."""
        query = "SELECT * FROM scheduler.occurrence WHERE account = $1 AND id = $2"
        rows = await self._database.fetch(query, account, run_id)
        return read_occurrence(rows[0]) if rows else None

    async def list_some(
        self, account: str, task_id: int, before: tuple[datetime, UUID] | None, limit: int
    ) -> list[Occurrence]:
        """Runs of a task, also of one that was deleted, newest due time first, from behind (due time, id)."""
        position = before or (None, None)
        rows = await self._database.fetch(_LIST, account, task_id, *position, limit)
        return [read_occurrence(row) for row in rows]


def read_occurrence(row: Any) -> Occurrence:
    """A run from its row."""
    return Occurrence(
        id=make_uuid(row["id"].int),
        account=row["account"],
        task_id=row["task_id"],
        name=row["name"],
        job_name=row["job_name"],
        args=row["args"],
        scheduled_for=row["scheduled_for"],
        by_hand=row["by_hand"],
        state=OccurrenceState(row["state"]),
        attempt=row["attempt"],
        failures=row["failures"],
        max_attempts=row["max_attempts"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        due_at=row["due_at"],
        result=row["result"],
        error=row["error"],
    )
