"""The kinds of field in the bodies about tasks."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from services.scheduler.recurrence import RecurringInterval
from services.scheduler.tasks.task import EXTERNAL
from shared.events.requested import check_variables

ARGS_LIMIT = 256 * 1024
"""Bytes of JSON: a run's arguments travel on `schedule.tick`, with everything else an event has."""

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")
_EARLIEST, _LATEST = 1970, 9900  # leaves room to reckon in any zone
_DETAIL = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
_DETAILS = {
    name: {**_DETAIL, "description": meaning}
    for name, meaning in {
        "minute": "0 to 59",
        "hour": "0 to 23",
        "day_of_month": "1 to 31",
        "month_of_year": "1 to 12, or jan to dec",
        "day_of_week": "0 to 7, Sunday is both, or sun to sat",
    }.items()
}
_DETAILS_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "object", "properties": _DETAILS, "additionalProperties": False},
        {"type": "string", "contentMediaType": "application/json", "description": "the same object, as JSON in a text"},
        {"type": "null"},
    ],
    "description": "each field `*`, a number, a list `2,4,5,8`, a range `8-18` or a step `*/15`; absent: `*`. Both day "
    "fields set: both must match, also where one is the interval's default (`EVERY_MONTH` on weekday 1: a 1st that is "
    "a Monday)",
    "examples": [{"minute": "30", "hour": "8"}],
}


def _check_name(text: str) -> str:
    if not text.isprintable():
        raise ValueError("may hold printable characters only")
    return text


def _read_moment(value: Any) -> Any:
    if isinstance(value, datetime) or (isinstance(value, str) and _TIME.match(value)):
        return value
    raise ValueError("write a time as 2026-01-31T09:00:00Z, or without an offset: then it is the task's zone's")


def _bound_moment(value: datetime) -> datetime:
    if not _EARLIEST < value.year < _LATEST:
        raise ValueError(f"must be a time between the years {_EARLIEST} and {_LATEST}")
    return value if value.tzinfo is None else value.astimezone(UTC)


def _check_args(args: dict[str, Any]) -> dict[str, Any]:
    check_variables(args)  # what cannot be written as JSON again, or is nested too deeply
    size = len(orjson.dumps(args))
    if size > ARGS_LIMIT:
        raise ValueError(f"may have at most {ARGS_LIMIT} bytes of JSON; these have {size}")
    return args


def _refuse_truth(value: Any) -> Any:
    """In JSON true is no number; in a query numbers are text."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_check_name)
]
JobName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=r"^[!-~]+$"),
    Field(
        description=f"a key of the registry (`GET /v1/jobs`), or `{EXTERNAL}…`: published for others",
        examples=["send_email"],
    ),
]
Moment = Annotated[
    datetime,
    BeforeValidator(_read_moment),
    AfterValidator(_bound_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A time; without an offset it is one of the task's zone."""
Interval = Annotated[str, WithJsonSchema({"type": "string", "enum": [each.value for each in RecurringInterval]})]
"""Read by the schedule, so that all that is wrong with that is told at once."""
Details = Annotated[Any, WithJsonSchema(_DETAILS_SCHEMA)]
Args = Annotated[dict[str, Any], AfterValidator(_check_args)]
Retries = Annotated[int, Field(ge=0, le=20, strict=True)]
Backoff = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False, strict=True)]
TimeLimit = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False, strict=True)]
TaskId = Annotated[
    int, BeforeValidator(_refuse_truth), Field(ge=1, lt=2**63, description="the task's id", examples=[1])
]
Limit = Annotated[int, BeforeValidator(_refuse_truth), Field(ge=1, le=200, description="how many at most")]
After = Annotated[str | None, Field(max_length=300, description="`next` of the page before")]
