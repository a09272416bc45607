"""What is answered about tasks and their runs: the models of the JSON."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from services.scheduler.task_api.examples import RUN, RUN_ID, TASK
from services.scheduler.tasks.task import Misfire, Overlap, TaskStatus
from shared.apidocs import ProblemDocument


class DueBy(BaseModel):
    """What a schedule became: a cron line or one time, in a zone."""

    cron: str | None = Field(default=None, description="the line that is reckoned with", examples=["0 0 1 2,4,5,8 *"])
    run_at: datetime | None = None
    timezone: str
    day_fields: Literal["both", "either"] | None = Field(
        default=None, description="with day of month and day of week set: whether both must match, or either"
    )
    text: str | None = Field(default=None, description="in words", examples=["At 08:30 on Monday through Friday"])


class CreatorKey(BaseModel):
    """The API key a task was made with."""

    key_id: str | None
    name: str | None


class Task(BaseModel):
    """A task. Every member is always there; null where there is none."""

    model_config = ConfigDict(json_schema_extra={"examples": [TASK]})

    id: int
    name: str
    job_name: str
    status: TaskStatus = Field(description="that of the latest run; CREATED before the first")
    created_at: datetime
    updated_at: datetime
    recurring_interval: str | None
    recurring_details: dict[str, str] | None = Field(description="as given; `schedule` says what became of them")
    cron: str | None
    run_at: datetime | None
    timezone: str
    start_at: datetime | None
    end_at: datetime | None
    schedule: DueBy
    args: dict[str, Any] = Field(description="as given, without the job's defaults")
    enabled: bool
    misfire: Misfire
    overlap: Overlap
    retries: int
    backoff_s: float
    time_limit_s: float | None
    creator: CreatorKey
    test: bool = Field(description="made with a test key: its mail is simulated")
    next_due_at: datetime | None = Field(description="null: never again, or disabled")
    upcoming: list[datetime] = Field(description="the next due times in the task's zone, up to five; in lists one")


class TaskPage(BaseModel):
    """The account's tasks in the order they were made; `next` where there may be more."""

    data: list[Task]
    next: str | None = None


class TaskEnvelope(BaseModel):
    """The command was carried out."""

    data: Task
    error: None = None
    success: Literal[True] = True


class TasksEnvelope(BaseModel):
    """A list of tasks. The header `Link` (`rel="next"`) leads on where there may be more."""

    data: list[Task]
    error: None = None
    success: Literal[True] = True


class FailureEnvelope(BaseModel):
    """The command was not carried out, and why."""

    data: None = None
    error: ProblemDocument
    success: Literal[False] = False


class RunError(BaseModel):
    """Why a run failed, in the words of what was raised."""

    model_config = ConfigDict(validate_by_name=True)

    class_: str = Field(alias="class", examples=["ValueError"])
    message: str


class Run(BaseModel):
    """One run of a task, or of a job without one."""

    model_config = ConfigDict(json_schema_extra={"examples": [RUN]})

    id: UUID
    task_id: int | None
    name: str = Field(description="the task's, or the job's where there is no task")
    job_name: str
    status: Literal["PENDING", "PUBLISHED", "READY", "RUNNING", "SUCCEEDED", "FAILED", "SKIPPED"] = Field(
        description="PENDING, PUBLISHED, READY: about to begin, or to begin again; SKIPPED: nobody was there at its "
        "time (`misfire`), or the run before still went on (`overlap`)"
    )
    by_hand: bool
    due_at: datetime = Field(description="by hand: when it was asked for")
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int = Field(description="how often it was begun")
    next_attempt_at: datetime | None = Field(description="when a run that failed is tried again")
    result: Any = Field(description="what the job returned")
    error: RunError | None = Field(description="of the last failure")


class RunPage(BaseModel):
    """Runs, the latest due time first; `next` where there may be more."""

    data: list[Run]
    next: str | None = None


class RunAccepted(BaseModel):
    """A run is about to begin; `Location` shows what becomes of it."""

    run_id: UUID = Field(examples=[RUN_ID])
    status: str = Field(examples=["PENDING"])


class Preview(BaseModel):
    """When a task with this schedule would be due."""

    schedule: DueBy
    upcoming: list[datetime] = Field(description="in the zone of the schedule; fewer than asked for where it ends")


class Job(BaseModel):
    """A job that tasks can be made of."""

    name: str = Field(examples=["send_email"])
    description: str
    args_schema: dict[str, Any] = Field(description="JSON Schema of `args`; what has a default is not required")
    defaults: list[str] = Field(description="the fields of `args` that have a default here (`MILENA_JOB_DEFAULTS`)")
    time_limit_s: float | None = Field(description="seconds one attempt may take; null: the usual limit")


class JobList(BaseModel):
    """Every job there is, by name."""

    data: list[Job]
