"""From what is stored to what is answered. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

from services.scheduler.recurrence import InvalidSchedule, Schedule
from services.scheduler.runs.job import Job as RegisteredJob
from services.scheduler.runs.occurrence import Occurrence, OccurrenceState
from services.scheduler.task_api.answers import CreatorKey, DueBy, Job, Run, RunError, Task
from services.scheduler.task_api.defining import to_fields
from services.scheduler.tasks.arming import build_schedule
from services.scheduler.tasks.task import Task as StoredTask

_UPCOMING = 5


def show_task(task: StoredTask, upcoming: int = _UPCOMING) -> Task:
    """A task, with so many of its next due times."""
    schedule, due_times = _show_timing(task, upcoming)
    return Task(
        **to_fields(task.definition),
        id=task.id,
        status=task.status,
        created_at=task.created_at,
        updated_at=task.updated_at,
        schedule=schedule,
        creator=CreatorKey(key_id=task.creator.key_id, name=task.creator.name),
        test=task.creator.test,
        next_due_at=task.next_due_at,
        upcoming=due_times,
    )


def show_tasks(tasks: Sequence[StoredTask]) -> list[Task]:
    """Tasks of a list: to reckon five due times of each takes a millisecond or two, so there is one."""
    return [show_task(each, upcoming=1) for each in tasks]


def _show_timing(task: StoredTask, count: int) -> tuple[DueBy, list[datetime]]:
    timing, first = task.definition.timing, task.next_due_at
    try:
        schedule = build_schedule(timing)
    except InvalidSchedule as exc:  # a zone that is no more: its task is still to be seen, and mended
        return DueBy(cron=timing.cron, timezone=timing.timezone, text=f"cannot be read any more: {exc}"), []
    if first is None:
        return show_schedule(schedule), []
    rest = [] if schedule.one_off else schedule.upcoming(first, count - 1)
    return show_schedule(schedule), [each.astimezone(schedule.zone) for each in (first, *rest)]


def show_schedule(schedule: Schedule) -> DueBy:
    """A schedule in the words of its own description."""
    return DueBy.model_validate(schedule.describe())


def show_run(run: Occurrence) -> Run:
    """A run."""
    waits = run.state is OccurrenceState.READY and run.failures > 0
    return Run(
        id=run.id,
        task_id=run.task_id,
        name=run.name,
        job_name=run.job_name,
        status=cast(Any, run.state.value.upper()),
        by_hand=run.by_hand,
        due_at=run.scheduled_for,
        started_at=run.started_at,
        finished_at=run.finished_at,
        attempts=run.attempt,
        next_attempt_at=run.due_at if waits else None,
        result=run.result,
        error=RunError.model_validate(run.error) if run.error else None,
    )


def show_job(job: RegisteredJob, defaults: Mapping[str, Any]) -> Job:
    """A job; of its defaults the names only, for they may be secrets."""
    return Job(
        name=job.name,
        description=job.description,
        args_schema=_describe_args(job, defaults),
        defaults=sorted(defaults),
        time_limit_s=job.time_limit_s,
    )


def _describe_args(job: RegisteredJob, defaults: Mapping[str, Any]) -> dict[str, Any]:
    try:
        schema = job.args_model.model_json_schema()
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError):  # a type of the package's own
        return {"type": "object"}
    required = [name for name in schema.pop("required", ()) if name not in defaults]
    return {**schema, **({"required": required} if required else {})}
