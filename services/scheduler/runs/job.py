"""A job: a function with typed arguments, and what it is told when it runs. Pure."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, get_type_hints
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from services.scheduler.tasks.task import Creator
from shared.events import EmailRequested

JobFunction = Callable[..., Any]


class NoArgs(BaseModel):
    """Of a job that takes none."""

    model_config = ConfigDict(extra="forbid")


class InvalidJob(Exception):
    """A function that cannot be a job, or a second job of one name."""


class MailingWork(Protocol):
    """The work of the jobs that drive an account's mailings; each tells how much there was. Raises Unavailable."""

    async def start(self, account: str) -> Mapping[str, int]:
        """Start what is due, and give mail another turn that failed or was not heard of."""

    async def send(self, account: str) -> Mapping[str, int]:
        """See to it that mail leaves in its hours, and tell how it goes."""

    async def finish(self, account: str) -> Mapping[str, int]:
        """End what is over."""


class Tools(Protocol):
    """What built-in jobs reach the world with."""

    @property
    def mailings(self) -> MailingWork:
        """What drives mailings."""

    async def publish_email(self, email: EmailRequested) -> None:
        """Publish a mail, and wait for the broker's acknowledgement. Raises Unavailable."""

    async def purge(self, account: str, older_than_days: float, *, test_only: bool) -> int:
        """Delete an account's runs that ended longer ago; returns how many. Raises Unavailable.

        `test_only`: those that test keys have caused.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """What a job is told of its run.

    `attempt` counts from 1: above it the run was begun before, and may have done its work without saying so.
    `occurrence_id` stays the same, so what is derived from it is done once. `scheduled_for`: the run's due time.
    `creator`: the id of the API key that made the task, or asked for the run; its name is not kept with a run.
    """

    occurrence_id: UUID
    attempt: int
    account: str
    task_id: int | None
    name: str
    scheduled_for: datetime
    creator: Creator


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A registered job.

    `built_in`: ours, it runs on the process's own loop and gets Tools. `list_senders`: the addresses its arguments
    would send from, by field; they must be allowed to the key that asks.
    """

    name: str
    function: JobFunction
    args_model: type[BaseModel]
    args_name: str | None
    context_name: str | None
    tools_name: str | None
    description: str
    time_limit_s: float | None = None
    list_senders: Callable[[Any], Iterable[tuple[str, str]]] | None = None
    built_in: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself."""
        return self.function(*args, **kwargs)

    @property
    def is_async(self) -> bool:
        """Whether it runs on a loop; a plain function runs in a thread."""
        return inspect.iscoroutinefunction(self.function)

    def read_args(self, args: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> BaseModel:
        """The arguments, laid over the job's defaults. Raises pydantic's ValidationError."""
        return self.args_model.model_validate(merge_args(args, defaults))

    def bind(self, args: BaseModel, context: JobContext, tools: Tools) -> dict[str, Any]:
        """The keyword arguments of a call."""
        given = {self.args_name: args, self.context_name: context, self.tools_name: tools}
        return {name: value for name, value in given.items() if name}


def merge_args(args: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is given wins, field by field."""
    return {**(defaults or {}), **args}


def describe_job(
    name: str,
    function: JobFunction,
    *,
    description: str | None = None,
    time_limit_s: float | None = None,
    list_senders: Callable[[Any], Iterable[tuple[str, str]]] | None = None,
    built_in: bool = False,
) -> Job:
    """Read a function's parameters: one annotated with a pydantic model, one with JobContext, either may be missing.

    Raises InvalidJob.
    """
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidJob(f"job {name}: it yields; a job returns what came of it")
    names: dict[type, str] = {}
    args_model: type[BaseModel] | None = None
    hints = _read_hints(name, function)
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name)
        if args_model is None and inspect.isclass(hint) and issubclass(hint, BaseModel):
            args_model, names[BaseModel] = hint, parameter.name
        elif hint is JobContext or (built_in and hint is Tools):
            names[hint] = parameter.name
        elif not _may_be_left_out(parameter):
            wanted = "annotate one with a pydantic model (its arguments), one with JobContext, or give it a default"
            raise InvalidJob(f"job {name}: its parameter {parameter.name!r} cannot be filled; {wanted}")
    return Job(
        name=name,
        function=function,
        args_model=args_model or NoArgs,
        args_name=names.get(BaseModel),
        context_name=names.get(JobContext),
        tools_name=names.get(Tools),
        description=description if description is not None else (inspect.getdoc(function) or ""),
        time_limit_s=time_limit_s,
        list_senders=list_senders,
        built_in=built_in,
    )


def _read_hints(name: str, function: JobFunction) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except Exception as exc:
        raise InvalidJob(f"job {name}: its annotations cannot be read ({type(exc).__name__}: {exc})") from exc


def _may_be_left_out(parameter: inspect.Parameter) -> bool:
    return parameter.default is not parameter.empty or parameter.kind in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )
