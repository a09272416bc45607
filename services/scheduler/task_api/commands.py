"""What can be done with tasks: one implementation under `/api/tasks.*` and `/v1/tasks`.

Each command is for the account of the key that asks. Raises Problem, DatabaseUnavailable.
"""

from datetime import UTC, datetime
from uuid import UUID

from services.scheduler.recurrence import Schedule
from services.scheduler.runs.occurrence import Occurrence, OccurrenceState
from services.scheduler.runs.occurrence_store import JobRun, OccurrenceStore
from services.scheduler.task_api.bodies import JobRunRequest, NewTask, PageChoice, PreviewRequest, TaskChanges
from services.scheduler.task_api.defining import Definer, read_schedule
from services.scheduler.tasks.store import DuplicateName, TaskStore
from services.scheduler.tasks.task import Creator, Task, TaskDefinition
from shared.access import ApiKey
from shared.cursors import read_cursor, read_time_cursor, write_cursor, write_time_cursor
from shared.events import derive_run_id
from shared.problems import Problem, invalid_content

_LIST = "tasks"
_AFTER = "/after"


class Tasks:
    """The commands."""

    def __init__(self, tasks: TaskStore, runs: OccurrenceStore, definer: Definer) -> None:
        self._tasks = tasks
        self._runs = runs
        self._definer = definer

    async def create(self, key: ApiKey, wanted: NewTask) -> Task:
        """Make a task."""
        definition = self._definer.define(wanted, key, datetime.now(UTC))
        try:
            return await self._tasks.create(key.account, definition, _sign(key))
        except DuplicateName as exc:
            raise _name_taken(exc) from None

    async def find(self, key: ApiKey, task_id: int) -> Task:
        """One task."""
        found = await self._tasks.find(key.account, task_id)
        if found is None:
            raise _no_such_task()
        return found

    async def list_some(self, key: ApiKey, page: PageChoice) -> tuple[list[Task], str | None]:
        """Tasks in the order they were made, and the cursor of the next page where there are more."""
        found = await self._tasks.list_some(key.account, _read_position(page.after), page.limit + 1)
        shown = found[: page.limit]
        return shown, write_cursor(_LIST, str(shown[-1].id)) if len(found) > page.limit else None

    async def update(self, key: ApiKey, task_id: int, changes: TaskChanges) -> Task:
        """Change what is given of a task."""

        def change(task: Task) -> TaskDefinition:
            _refuse_test_key(key, task)
            return self._definer.change(task.definition, changes, key, datetime.now(UTC))

        try:
            changed = await self._tasks.update(key.account, task_id, change)
        except DuplicateName as exc:
            raise _name_taken(exc) from None
        if changed is None:
            raise _no_such_task()
        return changed

    async def delete(self, key: ApiKey, task_id: int) -> Task:
        """Delete a task; gives what it was."""
        _refuse_test_key(key, await self.find(key, task_id))
        deleted = await self._tasks.delete(key.account, task_id)
        if deleted is None:
            raise _no_such_task()
        return deleted

    async def run(self, key: ApiKey, task_id: int, name: str | None = None) -> Occurrence:
        """Run a task now, whenever it is due; asked for once more under the same `name`, it is the same run."""
        task = await self.find(key, task_id)
        _refuse_test_key(key, task)
        if not task.definition.is_external:
            self._definer.refuse_unknown(task.definition.job_name)
        run = await self._runs.run_task(key.account, task_id, _name_run(key, f"tasks/{task_id}", name))
        if run is None:
            raise _no_such_task()
        if run.state is OccurrenceState.SKIPPED:
            detail = "The task still runs, and is not to overlap (`overlap: skip`)."
            raise Problem(409, "task-running", detail, run_id=str(run.id))
        return run

    async def list_runs(self, key: ApiKey, task_id: int, page: PageChoice) -> tuple[list[Occurrence], str | None]:
        """Runs of a task, the latest due time first, and the cursor of the next page; also of a deleted task."""
        mark = f"runs of {task_id}"
        position = read_time_cursor(page.after, _AFTER, mark) if page.after else None
        found = await self._runs.list_some(key.account, task_id, position, page.limit + 1)
        if not found and position is None:
            await self.find(key, task_id)
        shown = found[: page.limit]
        more = len(found) > page.limit
        return shown, write_time_cursor(shown[-1].scheduled_for, shown[-1].id, mark) if more else None

    async def find_run(self, key: ApiKey, run_id: UUID) -> Occurrence:
        """One run."""
        found = await self._runs.find(key.account, run_id)
        if found is None:
            raise Problem(404, "run-not-found", "There is no run with this id in this account (any more).")
        return found

    async def run_job(self, key: ApiKey, job: str, wanted: JobRunRequest, name: str | None = None) -> Occurrence:
        """Run a job now, without a task; asked for once more under the same `name`, it is the same run."""
        self._definer.check_run(job, wanted.args, key)
        wish = JobRun(
            job_name=job,
            args=wanted.args,
            creator=_sign(key),
            max_attempts=wanted.retries + 1,
            backoff_s=wanted.backoff_s,
            time_limit_s=wanted.time_limit_s,
        )
        run = await self._runs.run_job(key.account, wish, _name_run(key, f"jobs/{job}", name))
        if run.args != wanted.args:
            detail = "This Idempotency-Key was used for a run with other arguments. Use a new key for a new run."
            raise Problem(422, "idempotency-key-reused", detail)
        return run


def preview(wanted: PreviewRequest) -> tuple[Schedule, list[datetime]]:
    """A schedule, and when it would be due, in its zone. Raises Problem."""
    schedule = read_schedule(wanted)
    after = wanted.after or datetime.now(UTC)
    if after.tzinfo is None:
        after = after.replace(tzinfo=schedule.zone)
    return schedule, [each.astimezone(schedule.zone) for each in schedule.upcoming(after, wanted.count)]


def _name_run(key: ApiKey, path: str, name: str | None) -> UUID | None:
    return derive_run_id(key.account, path, name, is_test=key.test) if name else None


def _sign(key: ApiKey) -> Creator:
    return Creator(key.id, key.name, key.test)


def _read_position(after: str | None) -> int:
    if after is None:
        return 0
    mark, position = read_cursor(after, 2, _AFTER)
    if mark != _LIST or not (position.isascii() and position.isdigit() and len(position) < 19):
        raise invalid_content([{"detail": "belongs to another list", "pointer": _AFTER}])
    return int(position)


def _refuse_test_key(key: ApiKey, task: Task) -> None:
    if key.test and not task.creator.test:
        raise Problem(403, "test-key", "A test key changes and runs only tasks that were made with one.")


def _no_such_task() -> Problem:
    return Problem(404, "task-not-found", "There is no task with this id in this account.")


def _name_taken(exc: DuplicateName) -> Problem:
    errors = [{"detail": "another task of the account has it", "pointer": "/name"}]
    return Problem(409, "task-exists", f"There is a task named {exc.name!r} already.", errors=errors)
