"""What jobs and their runs are told by the environment."""

import re
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from shared.settings import EnvironmentSettings

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def _parse_modules(value: Any) -> Any:
    """`shop.tasks, crm.jobs` → names. Raises ValueError."""
    if not isinstance(value, str):
        return value
    names = tuple(part.strip() for part in value.split(",") if part.strip())
    for name in names:
        if not _MODULE.fullmatch(name):
            raise ValueError(f"{name!r} is no module; write shop.tasks, separated by commas")
    return names


def _parse_defaults(value: Any) -> Any:
    """`{"send_email": {"from": "a@x.org"}}` → the same as a mapping. Raises ValueError."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise ValueError('is not JSON; write {"send_email": {"from": "shop@example.com"}}') from None
    if not isinstance(value, dict) or not all(isinstance(each, dict) for each in value.values()):
        raise ValueError('must be an object of objects: {"send_email": {"from": "shop@example.com"}}')
    return value


class JobSettings(EnvironmentSettings):
    """Which jobs there are, and what their arguments begin with: of API, worker and job runner alike."""

    job_modules: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_modules)] = Field(
        default=(), description="modules that register jobs, beside the entry points of the group milena.jobs"
    )
    job_defaults: Annotated[dict[str, dict[str, Any]], NoDecode, BeforeValidator(_parse_defaults)] = Field(
        default={}, description="JSON: arguments by job, under those a task gives"
    )


class TaskSettings(JobSettings):
    """How tasks fire."""

    misfire_after_s: float = Field(
        default=30, ge=1, description="a due time this long ago that nobody was there for was missed"
    )
    tick_lease_s: float = Field(default=5, ge=1, description="then publishing that was begun is begun again")
    tick_patience_s: float = Field(
        default=1, ge=0, description="then a run whose tick has not come back through Kafka begins without it"
    )
    result_retention: float = Field(default=30, gt=0, description="days that ended runs are kept; above the topics'")


class RunSettings(JobSettings):
    """How jobs run."""

    job_concurrency: int = Field(default=64, ge=1, le=1000, description="jobs that run in one process at once")
    job_time_limit_s: float = Field(default=300, gt=0, description="of an attempt, where neither task nor job says")
    job_lease_s: float = Field(default=15, ge=1, description="then the run of a process that died is taken over")
    job_drain_s: float = Field(
        default=20, ge=0, le=30, description="a process that stops waits so long for its jobs; then others begin them"
    )
