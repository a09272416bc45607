"""The CloudEvents envelope (1.0, Kafka protocol binding, binary mode) and what every event model shares."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from shared.addresses import (
    RECIPIENT_LIMIT,
    InvalidAddress,
    Mailbox,
    check_address,
    check_effort,
    check_name,
    drop_duplicates,
    parse_list,
)
from shared.addresses import parse_mailbox as _parse_mailbox

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/json"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d")


class EventType(StrEnum):
    """`ce_type` of every event on our four topics."""

    REQUESTED = "email.requested"
    BULK_REQUESTED = "email.bulk_requested"
    CANCELLATION_REQUESTED = "email.cancellation_requested"
    RESCHEDULED = "email.rescheduled"
    SENT = "email.sent"
    FAILED = "email.failed"
    TICK = "schedule.tick"
    MAILING_FINISHED = "mailing.finished"
    BATCH_FINISHED = "batch.finished"


_HOMES = {each: each for each in (EventType.SENT, EventType.FAILED, EventType.TICK)} | {
    EventType.MAILING_FINISHED: EventType.TICK,
    EventType.BATCH_FINISHED: EventType.TICK,
}


@lru_cache(maxsize=1000)
def belongs_on(event_type: EventType, topic: str) -> bool:
    """Whether an event of this type may stand on the topic (its name with any prefix).

    Results are believed only where results are published: an ACL lets anybody else write `email.requested` only (R9).
    """
    return topic.endswith(_HOMES.get(event_type, EventType.REQUESTED).value)


class WireModel(BaseModel):
    """An event's data. Unknown fields are ignored on reading, so that an older reader survives a newer writer."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, ser_json_inf_nan="null")

    def to_json(self) -> bytes:
        """The event's value on the topic: JSON, absent fields left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


def read_mailbox(value: Any) -> Mailbox:
    """A mailbox from `"Ann <ann@x.org>"` or `{"address": …, "name": …}`. Raises ValueError."""
    if isinstance(value, Mailbox):
        return value
    if isinstance(value, str):
        return _parse_mailbox(value)
    if isinstance(value, Mapping) and isinstance(value.get("address"), str):
        name = "" if value.get("name") is None else value["name"]
        if isinstance(name, str) and set(value) <= {"address", "name"}:
            return Mailbox(check_address(value["address"].strip()), check_name(name))
    raise InvalidAddress('write an address as "ann@x.org", "Ann <ann@x.org>" or {"address": …, "name": …}')


def _split_list(value: Any) -> Any:
    if isinstance(value, str):
        return parse_list(value)
    if isinstance(value, list):
        check_effort(each for each in value[:RECIPIENT_LIMIT] if isinstance(each, str))
    return value


def _require_rfc3339(value: Any) -> Any:
    """pydantic would also take numbers (seconds or milliseconds, by their size); the contract knows one form."""
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC3339.match(value)):
        return value
    raise ValueError("write a time as RFC 3339: 2026-01-31T09:00:00Z")


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("give a time zone: 2026-01-31T09:00:00Z or …+01:00")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from None


_MAILBOX_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"address": {"type": "string"}, "name": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
            "required": ["address"],
            "additionalProperties": False,
        },
    ],
    "description": "RFC 5322 mailbox",
    "examples": ["Ann <ann@example.com>", {"address": "ann@example.com", "name": "Ann"}],
}

MailboxField = Annotated[
    Mailbox,
    BeforeValidator(read_mailbox),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(_MAILBOX_SCHEMA),
]
MailboxList = Annotated[
    list[MailboxField],
    Field(max_length=RECIPIENT_LIMIT),  # looked at first: 250,000 addresses in one event took 27 s to refuse
    BeforeValidator(_split_list),
    AfterValidator(drop_duplicates),
    WithJsonSchema(
        {
            "anyOf": [{"type": "array", "items": _MAILBOX_SCHEMA}, {"type": "string"}],
            "description": "array of mailboxes, or an RFC 5322 address list",
        }
    ),
]
Address = Annotated[str, AfterValidator(check_address), WithJsonSchema({"type": "string", "format": "email"})]
Instant = Annotated[datetime, BeforeValidator(_require_rfc3339), AfterValidator(_aware)]


Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""A number that fits wherever it is kept."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = round(datetime(9999, 1, 1, tzinfo=UTC).timestamp() * 1000)  # leaves room to reckon onwards


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Where a record lies, and its broker timestamp in integer milliseconds since the epoch.

    Where the topic keeps its publishers' timestamps the number may be any of 64 bits.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int

    @property
    def time(self) -> datetime:
        """The broker timestamp: see read_timestamp."""
        return read_timestamp(self.timestamp_ms)

    @property
    def stamp(self) -> int:
        """The timestamp in derived identities: bounded, so that a client with float seconds finds the same."""
        return min(max(self.timestamp_ms, -_LAST_MS), _LAST_MS)


@lru_cache(maxsize=1000)  # the records of a batch share one
def read_timestamp(timestamp_ms: int) -> datetime:
    """A broker timestamp in UTC; what no calendar holds becomes the nearest of the years 1970 to 9998."""
    return _EPOCH + timedelta(milliseconds=min(max(timestamp_ms, 0), _LAST_MS - 1))


def build_headers(
    event_type: EventType, event_id: UUID | str, source: str, time: datetime | str, traceparent: str | None
) -> list[tuple[str, bytes]]:
    """Kafka headers of one event, in CloudEvents' binary mode. `time` as text must be RFC 3339."""
    headers = [
        *_build_fixed_headers(event_type, source),
        ("ce_id", str(event_id).encode()),
        ("ce_time", (time if isinstance(time, str) else format_time(time)).encode()),
    ]
    if traceparent:
        headers.append(("traceparent", traceparent.encode()))
    return headers


@lru_cache(maxsize=100)
def _build_fixed_headers(event_type: EventType, source: str) -> tuple[tuple[str, bytes], ...]:
    return (
        ("ce_specversion", SPEC_VERSION.encode()),
        ("ce_type", event_type.value.encode()),
        ("ce_source", source.encode()),
        ("content-type", CONTENT_TYPE.encode()),
    )


def read_header(headers: Iterable[tuple[str, bytes]] | Mapping[str, bytes] | None, name: str) -> str | None:
    """One header's text, None where it is missing or not ASCII. Takes aiokafka's tuples or Faust's mapping."""
    if not headers:
        return None
    pairs = headers if isinstance(headers, (tuple, list)) or not isinstance(headers, Mapping) else headers.items()
    for key, value in pairs:
        if key == name and value is not None:
            return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return None


def format_time(time: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
