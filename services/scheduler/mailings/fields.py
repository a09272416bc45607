"""The kinds of field in the bodies about mailings."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field, StringConstraints

from services.scheduler.importing.columns import KNOWN
from services.scheduler.recurrence import InvalidSchedule
from services.scheduler.recurrence.zones import load_zone
from shared.events.requested import check_variables, refuse_line_breaks
from shared.events.wire import Instant

SOURCE_LIMIT = 256 * 1024
VARIABLES_LIMIT = 64 * 1024  # bytes of JSON
_EARLIEST, _LATEST = 1970, 9900  # leaves room to reckon in any zone
_CLOCK = re.compile(r"^([01][0-9]|2[0-3]):[0-5][0-9]$")


def _refuse_nul(value: str | None) -> str | None:
    if value and "\0" in value:
        raise ValueError("must not contain NUL")
    return value


def _check_zone(name: str) -> str:
    try:
        load_zone(name)
    except InvalidSchedule as exc:
        raise ValueError(exc.errors[0][1]) from None
    return name


def _check_clock(value: str) -> str:
    if not _CLOCK.fullmatch(value):
        raise ValueError("write a time of day as 09:00, from 00:00 to 23:59")
    return value


def _check_moment(value: datetime) -> datetime:
    if not _EARLIEST < value.year < _LATEST:
        raise ValueError(f"must be a time between the years {_EARLIEST} and {_LATEST}")
    return value


def _check_values(values: dict[str, Any]) -> dict[str, Any]:
    """What a template may be rendered with."""
    check_variables(values)
    if len(orjson.dumps(values)) > VARIABLES_LIMIT:
        raise ValueError(f"may have at most {VARIABLES_LIMIT} bytes of JSON")
    return values


def _check_attributes(wanted: dict[str, Any]) -> dict[str, Any]:
    for name, value in wanted.items():
        if name in KNOWN:  # no contact has such an attribute, so that null would mean every contact there is
            raise ValueError(f"{name} is a field of a contact, and no attribute")
        if "\0" in name or any(not _is_scalar(each) for each in (value if isinstance(value, list) else [value])):
            raise ValueError("write each as a text, a number, true, false or null, or as a list of these")
        if isinstance(value, list) and not value:
            raise ValueError(f"{name}: a list of no values means nobody")
    return wanted


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" not in value and len(value) <= 1000
    return value is None or isinstance(value, bool | int | float)


def _refuse_none(tags: list[str]) -> list[str]:
    """Whoever computes them and finds none does not mean every contact there is."""
    if not tags:
        raise ValueError("a list of no tags means nobody; leave it out where the tags do not matter")
    return tags


def _drop_repeats(tags: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(tags))


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(refuse_line_breaks),
]
Subject = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(refuse_line_breaks)]
Source = Annotated[str, StringConstraints(max_length=SOURCE_LIMIT), AfterValidator(_refuse_nul)]
Moment = Annotated[Instant, AfterValidator(_check_moment)]
Zone = Annotated[str, StringConstraints(max_length=100), AfterValidator(_check_zone)]
Clock = Annotated[str, AfterValidator(_check_clock), Field(json_schema_extra={"pattern": _CLOCK.pattern})]
ContactTag = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_refuse_nul)
]
ContactTags = Annotated[list[ContactTag], Field(max_length=50), AfterValidator(_drop_repeats)]
SomeContactTags = Annotated[ContactTags, AfterValidator(_refuse_none), Field(json_schema_extra={"minItems": 1})]
Attributes = Annotated[
    dict[Annotated[str, StringConstraints(min_length=1, max_length=100)], Any],
    Field(max_length=20),
    AfterValidator(_check_attributes),
]
Values = Annotated[dict[str, Any], AfterValidator(_check_values)]


Rate = Annotated[int, Field(ge=1, le=100_000, strict=True)]
