"""A job: a function with typed arguments, and what it is told when it runs. Pure."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, get_type_hints
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from services.scheduler.task import Creator
from shared.events import EmailRequested

JobFunction = Callable[..., Any]


class NoArgs(BaseModel):
    """Of a job that takes none."""

    model_config = ConfigDict(extra="forbid")


class InvalidJob(Exception):
    """A function that cannot be a job, or a second job of one name."""


class Tools(Protocol):
    """What built-in jobs reach the world with."""

    async def publish_email(self, email: EmailRequested) -> None:
        """Publish a mail, and wait for the broker's acknowledgement. Raises Unavailable."""

    async def purge(self, account: str, older_than_days: float) -> int:
        """Delete an account's runs that ended longer ago; returns how many. Raises Unavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """What a job is told of its run.

    `attempt` counts from 1: above it the run was begun before, and may have done its work without saying so.
    `occurrence_id` stays the same, so what is derived from it is done once. `scheduled_for`: the run's due time.
    """

    occurrence_id: UUID
    attempt: int
    account: str
    task_id: int | None
    name: str
    scheduled_for: datetime
    creator: Creator
    tools: Tools = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A registered job.

    `list_senders`: the addresses its arguments would send from, by field; they must be allowed to the key that asks.
    """

    name: str
    function: JobFunction
    args_model: type[BaseModel]
    args_name: str | None
    context_name: str | None
    description: str
    time_limit_s: float | None = None
    list_senders: Callable[[Any], Iterable[tuple[str, str]]] | None = None

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

    def bind(self, args: BaseModel, context: JobContext) -> dict[str, Any]:
        """The keyword arguments of a call."""
        given = {self.args_name: args, self.context_name: context}
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
) -> Job:
    """Read a function's parameters: one annotated with a pydantic model, one with JobContext, either may be missing.

    Raises InvalidJob.
    """
    try:
        hints = get_type_hints(function)
    except Exception as exc:
        raise InvalidJob(f"job {name}: its annotations cannot be read ({type(exc).__name__}: {exc})") from exc
    args_name = context_name = None
    args_model: type[BaseModel] = NoArgs
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name)
        if hint is JobContext and context_name is None:
            context_name = parameter.name
        elif inspect.isclass(hint) and issubclass(hint, BaseModel) and args_name is None:
            args_name, args_model = parameter.name, hint
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            wanted = "annotate one with a pydantic model (its arguments), one with JobContext, or give it a default"
            raise InvalidJob(f"job {name}: its parameter {parameter.name!r} cannot be filled; {wanted}")
    return Job(
        name=name,
        function=function,
        args_model=args_model,
        args_name=args_name,
        context_name=context_name,
        description=description if description is not None else (inspect.getdoc(function) or ""),
        time_limit_s=time_limit_s,
        list_senders=list_senders,
    )
