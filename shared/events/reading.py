"""From a Kafka record to an event, or to an exact account of what is wrong with it.

Reading goes in two steps, so that every consumer decides who answers for a record in the same way:
`open_record` finds out what it claims to be, `read_*` validates it.
"""

from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import orjson
from pydantic import ValidationError

from shared.events.bulk import BulkRequested
from shared.events.identity import derive_record_id
from shared.events.requested import CancellationRequested, EmailRequested
from shared.events.wire import Coordinates, EventType, WireModel

Model = TypeVar("Model", bound=WireModel)

DEFAULT_EVENT_LIMIT = 1024 * 1024  # bytes of the serialised event, uncompressed (R8)


_MOST_ERRORS, _LONGEST_ERROR = 20, 300  # errors of one record, characters of each
_TYPES = {each.value: each for each in EventType}


class RefusedValue(bytes):
    """In the place of a record's value that was not taken in; `why` says what is wrong with it. Empty."""

    why: str

    def __new__(cls, why: str) -> "RefusedValue":
        """A value of no bytes."""
        value = super().__new__(cls)
        value.why = why
        return value


class UnreadableEvent(Exception):
    """The record holds no valid event; `errors` says why, field by field, never repeating content."""

    def __init__(self, errors: list[dict[str, str]], event_id: UUID | None = None) -> None:
        super().__init__("; ".join(error["detail"] for error in errors))
        self.errors = errors
        self.event_id = event_id


@dataclass(frozen=True, slots=True)
class OpenedRecord:
    """A record whose JSON could be read. `type` is None for a `ce_type` nobody here knows."""

    type: EventType | None
    data: dict[str, Any]

    @property
    def belongs_to_scheduler(self) -> bool:
        """R1: decided by the content alone, valid or not, so that sender and scheduler always agree."""
        return self.type in (EventType.REQUESTED, EventType.BULK_REQUESTED) and (
            self.data.get("send_at") is not None or self.data.get("priority") == "bulk"
        )


def open_record(value: bytes | None, ce_type: str | None, limit: int = DEFAULT_EVENT_LIMIT) -> OpenedRecord:
    """Parse the JSON and find the type: `ce_type` where present, otherwise by shape. Raises UnreadableEvent."""
    if not value:
        why = value.why if isinstance(value, RefusedValue) else "the record is empty; its value must be a JSON object"
        raise UnreadableEvent([_error(why)])
    if len(value) > limit:
        raise UnreadableEvent([_error(f"the event has {len(value)} bytes, the limit is {limit}")])
    try:
        data = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise UnreadableEvent([_error(f"not JSON: {exc.msg} (line {exc.lineno}, column {exc.colno})")]) from None
    if not isinstance(data, dict):
        raise UnreadableEvent([_error("the value must be a JSON object")])
    return OpenedRecord(_find_type(data, ce_type), data)


def _find_type(data: dict[str, Any], ce_type: str | None) -> EventType | None:
    if ce_type:
        return _TYPES.get(ce_type)
    if data.get("cancel") is True:
        return EventType.CANCELLATION_REQUESTED
    return EventType.BULK_REQUESTED if "mails" in data else EventType.REQUESTED


def read_email(opened: OpenedRecord, cluster_id: str, record: Coordinates) -> EmailRequested:
    """Validate a mail and give it its identity. Raises UnreadableEvent.

    The error carries an id only where it was derived from the record: one the publisher wrote may be the id of
    somebody's live mail, and an invalid event never touches that (R4).
    """
    own_id = derive_record_id(cluster_id, record) if opened.data.get("id") is None else None
    try:
        event = EmailRequested.model_validate(opened.data)
    except ValidationError as exc:
        raise UnreadableEvent(list_errors(exc), own_id) from None
    return event.model_copy(update={"id": own_id}) if own_id else event


def read_bulk(opened: OpenedRecord, cluster_id: str, record: Coordinates) -> BulkRequested:
    """Validate a bulk event and give it its identity. Raises UnreadableEvent, which never carries an id."""
    event = read_model(opened, BulkRequested)
    return event if event.bulk_id else event.model_copy(update={"bulk_id": derive_record_id(cluster_id, record)})


def read_cancellation(opened: OpenedRecord) -> CancellationRequested:
    """Validate a cancellation. Raises UnreadableEvent."""
    return read_model(opened, CancellationRequested)


def read_model(opened: OpenedRecord, model: type[Model]) -> Model:
    """Validate the data as `model`. Raises UnreadableEvent."""
    try:
        return model.model_validate(opened.data)
    except ValidationError as exc:
        raise UnreadableEvent(list_errors(exc)) from None


def list_errors(exc: ValidationError, prefix: str = "") -> list[dict[str, str]]:
    """`[{detail, pointer}]` of a validation error; JSON pointers (RFC 6901), no input is repeated.

    Bounded in number and length: the answer to a bad record must fit into one record, whatever was in it.
    """
    found = []
    for error in exc.errors(include_url=False, include_input=False)[:_MOST_ERRORS]:
        context = error.get("ctx") or {}
        path = [*error["loc"], *([context["pointer"]] if "pointer" in context else [])]
        parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
        detail = error["msg"].removeprefix("Value error, ")
        pointer = prefix + "".join(f"/{part}" for part in parts)
        found.append({"detail": detail[:_LONGEST_ERROR], "pointer": pointer[:_LONGEST_ERROR]})
    if exc.error_count() > _MOST_ERRORS:
        found.append({"detail": f"and {exc.error_count() - _MOST_ERRORS} more", "pointer": prefix})
    return found


def _error(detail: str) -> dict[str, str]:
    return {"detail": detail, "pointer": ""}
