"""What is sent about tasks: the models of the JSON, one set for `/api/tasks.*` and `/v1/tasks`."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.scheduler.task_api.fields import (
    After,
    Args,
    Backoff,
    Details,
    Interval,
    JobName,
    Limit,
    Moment,
    Name,
    Retries,
    TaskId,
    TimeLimit,
)
from services.scheduler.tasks.task import Misfire, Overlap

_ARGS = "given to the job, laid over its defaults, and checked by its own model at once"
_RETRIES = "how often a run that fails is tried again"
_BACKOFF = "seconds before the first retry, doubled before each further one"
_TIME_LIMIT = "seconds one attempt may take; absent: the job's limit"
_MISFIRE = "when nobody was there at its time (or times): `run_once` as soon as somebody is, or `skip`"
_OVERLAP = "whether it may run while its run before goes on"


class WhenDue(BaseModel):
    """When a task is due: by an interval with its details, or by a cron line, or once, at `run_at`."""

    model_config = ConfigDict(extra="forbid")

    recurring_interval: Interval | None = Field(default=None, examples=["EVERY_DAY"])
    recurring_details: Details = None
    cron: str | None = Field(
        default=None, max_length=500, description="a cron line of five fields, or `@daily`", examples=["30 8 * * 1-5"]
    )
    timezone: str = Field(default="UTC", max_length=100, description="IANA name", examples=["Europe/Berlin"])
    run_at: Moment | None = Field(default=None, description="once, at this time")
    start_at: Moment | None = Field(default=None, description="never due before")
    end_at: Moment | None = Field(default=None, description="never due after")


class NewTask(WhenDue):
    """A task to be made."""

    name: Name = Field(description="no other task of the account has it", examples=["Morning report"])
    job_name: JobName
    args: Args = Field(default_factory=dict, description=_ARGS)
    enabled: bool = Field(default=True, strict=True)
    misfire: Misfire = Field(default=Misfire.RUN_ONCE, description=_MISFIRE)
    overlap: Overlap = Field(default=Overlap.ALLOW, description=_OVERLAP)
    retries: Retries = Field(default=0, description=_RETRIES)
    backoff_s: Backoff = Field(default=30, description=_BACKOFF)
    time_limit_s: TimeLimit | None = Field(default=None, description=_TIME_LIMIT)


def _nothing() -> Any:
    """Stands for what was not given, which is never looked at."""


class TaskChanges(WhenDue):
    """What is to change of a task; what is left out stays. null takes back what a task need not have."""

    name: Name = Field(default_factory=_nothing, description="no other task of the account has it")
    job_name: JobName = Field(default_factory=_nothing)
    args: Args = Field(default_factory=_nothing, description=f"in place of those before; {_ARGS}")
    timezone: str = Field(default_factory=_nothing, max_length=100, description="IANA name", examples=["Europe/Berlin"])
    enabled: bool = Field(default_factory=_nothing, strict=True, description="false: not due until it is enabled again")
    misfire: Misfire = Field(default_factory=_nothing, description=_MISFIRE)
    overlap: Overlap = Field(default_factory=_nothing, description=_OVERLAP)
    retries: Retries = Field(default_factory=_nothing, description=_RETRIES)
    backoff_s: Backoff = Field(default_factory=_nothing, description=_BACKOFF)
    time_limit_s: TimeLimit | None = Field(default=None, description=_TIME_LIMIT)

    def to_fields(self) -> dict[str, Any]:
        """What was given."""
        return {name: getattr(self, name) for name in self.model_fields_set if name in NewTask.model_fields}


class TaskUpdate(TaskChanges):
    """A task, and what is to change of it."""

    id: TaskId


class TaskChoice(BaseModel):
    """Which task is meant."""

    model_config = ConfigDict(extra="forbid")

    id: TaskId


class PageChoice(BaseModel):
    """Which part of a list is meant."""

    model_config = ConfigDict(extra="forbid")

    after: After = None
    limit: Limit = 100


class PreviewRequest(WhenDue):
    """A schedule to look at."""

    after: Moment | None = Field(default=None, description="due times after this one; absent: from now on")
    count: int = Field(default=5, ge=1, le=50, strict=True, description="how many")


class TaskRunRequest(BaseModel):
    """A task is run as it is. Nothing can be said about it, so that nothing which is said is passed over."""

    model_config = ConfigDict(extra="forbid")


class JobRunRequest(BaseModel):
    """How a job is to be run."""

    model_config = ConfigDict(extra="forbid")

    args: Args = Field(default_factory=dict, description=_ARGS)
    retries: Retries = Field(default=0, description=_RETRIES)
    backoff_s: Backoff = Field(default=30, description=_BACKOFF)
    time_limit_s: TimeLimit | None = Field(default=None, description=_TIME_LIMIT)
