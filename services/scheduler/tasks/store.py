"""Every SQL statement on tasks that the API needs. Raises DatabaseUnavailable."""

from collections.abc import Callable
from typing import Any

import asyncpg
import orjson

from services.scheduler.tasks.arming import arm, keeps_due_time
from services.scheduler.tasks.task import Creator, Misfire, Overlap, Task, TaskDefinition, TaskStatus, Timing
from shared.database import Database, DatabaseUnavailable, database_now, text

_FIELDS = (
    *("name", "job_name", "args", "recurring_interval", "recurring_details", "cron", "timezone"),
    *("run_at", "start_at", "end_at", "enabled", "misfire", "overlap", "max_attempts", "backoff_s", "time_limit_s"),
)
_CREATE = f"""
    INSERT INTO scheduler.task (account, creator_key_id, creator_name, test, next_due_at, {", ".join(_FIELDS)})
    VALUES ({", ".join(f"${number}" for number in range(1, 6 + len(_FIELDS)))}) RETURNING *
"""
_UPDATE = f"""
    UPDATE scheduler.task SET {", ".join(f"{name} = ${number}" for number, name in enumerate(_FIELDS, 6))},
           next_due_at = CASE WHEN $4 THEN next_due_at ELSE $5 END, updated_at = now(), revision = revision + 1
    WHERE account = $1 AND id = $2 AND revision = $3 RETURNING *
"""
# A statement of its own: what waits for a lock still sees what there was before it waited.
LOCK_TASK = text("SELECT id FROM scheduler.task WHERE account = :account AND id = :task_id FOR UPDATE")
# Runs that have not begun end with their task, and so do those that wait to be tried again: they failed with what they
# say. One that is running finishes. All stay in history.
_DELETE = text(
    """
    WITH gone AS (DELETE FROM scheduler.task WHERE id = :task_id RETURNING *),
    ended AS (
        UPDATE scheduler.occurrence
        SET state = CASE WHEN attempt > 0 THEN 'failed' ELSE 'skipped' END, finished_at = now(),
            lease_token = NULL, lease_until = NULL,
            error = CASE WHEN attempt > 0 AND error IS NOT NULL THEN error ELSE
                    json_build_object('class', 'TaskDeleted', 'message', 'its task was deleted before it began') END
        WHERE task_id IN (SELECT id FROM gone) AND state IN ('pending', 'published', 'ready'))
    SELECT * FROM gone
    """
)
_TRIES = 20


class DuplicateName(Exception):
    """The account has a task of this name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a task named {name!r} already")
        self.name = name


class TaskStore:
    """The table `scheduler.task`, as accounts see it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, account: str, definition: TaskDefinition, creator: Creator) -> Task:
        """Make a task, and arm it. Raises DuplicateName, InvalidSchedule."""
        due_at = arm(definition, await database_now(self._database))
        fields = (account, creator.key_id, creator.name, creator.test, due_at, *_write(definition))
        try:
            rows = await self._database.fetch(_CREATE, *fields)
        except asyncpg.UniqueViolationError:
            raise DuplicateName(definition.name) from None
        return read_task(rows[0])

    async def find(self, account: str, task_id: int) -> Task | None:
        """One task of this account."""
        query = "SELECT * FROM scheduler.task WHERE account = $1 AND id = $2"
        rows = await self._database.fetch(query, account, task_id)
        return read_task(rows[0]) if rows else None

    async def list_some(self, account: str, after: int, limit: int) -> list[Task]:
        """Tasks with ids above `after` (0: from the beginning), in their order."""
        query = "SELECT * FROM scheduler.task WHERE account = $1 AND id > $2 ORDER BY id LIMIT $3"
        return [read_task(row) for row in await self._database.fetch(query, account, after, limit)]

    async def update(self, account: str, task_id: int, change: Callable[[Task], TaskDefinition]) -> Task | None:
        """Give a task the definition that `change` makes of it; None where there is no such task.

        `change` is called again where somebody else's edit came in between. Armed anew where the schedule is another,
        or the task had ended or is enabled again. Raises DuplicateName, InvalidSchedule, and what `change` raises.
        """
        for _ in range(_TRIES):
            before = await self.find(account, task_id)
            if before is None:
                return None
            after = change(before)
            kept = keeps_due_time(before, after)
            due_at = None if kept else arm(after, await database_now(self._database))
            fields = (account, task_id, before.revision, kept, due_at, *_write(after))
            try:
                rows = await self._database.fetch(_UPDATE, *fields)
            except asyncpg.UniqueViolationError:
                raise DuplicateName(after.name) from None
            if rows:
                return read_task(rows[0])
        raise DatabaseUnavailable("postgresql: a task is edited by too many at once")

    async def delete(self, account: str, task_id: int) -> Task | None:
        """Delete a task, and give it; its history stays."""
        async with self._database.transaction() as connection:
            locked = await connection.execute(LOCK_TASK, {"account": account, "task_id": task_id})
            if locked.first() is None:
                return None
            rows = await connection.execute(_DELETE, {"task_id": task_id})
            return read_task(rows.mappings().one())


def _write(definition: TaskDefinition) -> tuple[Any, ...]:
    """The values of _FIELDS."""
    timing = definition.timing
    return (
        definition.name,
        definition.job_name,
        write_json(dict(definition.args)),
        timing.recurring_interval,
        None if timing.recurring_details is None else write_json(dict(timing.recurring_details)),
        timing.cron,
        timing.timezone,
        timing.run_at,
        timing.start_at,
        timing.end_at,
        definition.enabled,
        definition.misfire,
        definition.overlap,
        definition.max_attempts,
        definition.backoff_s,
        definition.time_limit_s,
    )


def read_task(row: Any) -> Task:
    """A task from its row."""
    timing = Timing(
        recurring_interval=row["recurring_interval"],
        recurring_details=row["recurring_details"],
        cron=row["cron"],
        timezone=row["timezone"],
        run_at=row["run_at"],
        start_at=row["start_at"],
        end_at=row["end_at"],
    )
    definition = TaskDefinition(
        name=row["name"],
        job_name=row["job_name"],
        timing=timing,
        args=row["args"],
        enabled=row["enabled"],
        misfire=Misfire(row["misfire"]),
        overlap=Overlap(row["overlap"]),
        max_attempts=row["max_attempts"],
        backoff_s=row["backoff_s"],
        time_limit_s=row["time_limit_s"],
    )
    return Task(
        id=row["id"],
        account=row["account"],
        definition=definition,
        creator=Creator(row["creator_key_id"], row["creator_name"], row["test"]),
        status=TaskStatus(row["status"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        next_due_at=row["next_due_at"],
        revision=row["revision"],
    )


def write_json(value: Any) -> str:
    """For a `json` column."""
    return orjson.dumps(value).decode()
