"""The registry of jobs, and what a package of jobs imports: `from services.scheduler.jobs import JobContext, job`.

    class ReportArgs(BaseModel):
        month: int

    @job("shop.report", time_limit_s=60)
    async def report(args: ReportArgs, context: JobContext) -> dict[str, int]:
        ...

An async function runs on a loop, a plain one in a thread. What it returns (anything pydantic can write as JSON) is
the run's result; what it raises makes the run fail.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from services.scheduler.mailings.jobs import finish_mailing, send_message, start_mailing
from services.scheduler.runs.built_in import list_senders, purge_history, send_email
from services.scheduler.runs.job import InvalidJob, Job, JobContext, JobFunction, describe_job

__all__ = ["FUNCTIONS", "InvalidJob", "Job", "JobContext", "find_job", "job"]

Function = TypeVar("Function", bound=JobFunction)

FUNCTIONS: dict[str, Job | JobFunction] = {
    "send_email": describe_job("send_email", send_email, list_senders=list_senders, built_in=True),
    "purge_history": describe_job("purge_history", purge_history, built_in=True),
    "start_mailing": describe_job("start_mailing", start_mailing, built_in=True),
    "send_message": describe_job("send_message", send_message, built_in=True),
    "finish_mailing": describe_job("finish_mailing", finish_mailing, built_in=True),
}
"""Every job by its name; a plain function may be put here, too."""


def job(
    name: str | None = None,
    *,
    description: str | None = None,
    time_limit_s: float | None = None,
    list_senders: Callable[[Any], Iterable[tuple[str, str]]] | None = None,
) -> Callable[[Function], Function]:
    """Register a function under `name`, by default its own; the function stays what it was.

    `time_limit_s` of one attempt, where the task has none. Raises InvalidJob for a name that is taken.
    """

    def register(function: Function) -> Function:
        known_as = name or function.__name__
        known = FUNCTIONS.get(known_as)
        if known is not None and _whose(known) != _whose(function):
            raise InvalidJob(f"job {known_as}: {_whose(known)} has that name already, {_whose(function)} wants it, too")
        FUNCTIONS[known_as] = describe_job(
            known_as, function, description=description, time_limit_s=time_limit_s, list_senders=list_senders
        )
        return function

    return register


def find_job(name: str) -> Job | None:
    """The job of this name. Raises InvalidJob for a plain function that cannot be one."""
    found = FUNCTIONS.get(name)
    if found is None or isinstance(found, Job):
        return found
    described = FUNCTIONS[name] = describe_job(name, found)
    return described


def _whose(known: Job | JobFunction) -> str:
    function = known.function if isinstance(known, Job) else known
    return f"{function.__module__}.{function.__qualname__}"
