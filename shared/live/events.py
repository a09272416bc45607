"""From a record to what a listener may get."""

from dataclasses import dataclass
from typing import Any

import orjson

from shared.events import DEFAULT_ACCOUNT, UnreadableEvent, belongs_on, open_record, read_header


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """An event of one account. `payload`: its JSON in one line, with its identity as `ce_id`."""

    type: str
    account: str
    data: dict[str, Any]
    payload: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """What a listener is told; after `id` it has been told everything that lies before it."""

    id: str
    type: str
    payload: bytes


def read_event(record: Any, limit: int) -> LiveEvent | None:
    """The event in aiokafka's record; None for what nobody can read, or of a type that has no place there."""
    ce_type = read_header(record.headers, "ce_type")
    try:
        opened = open_record(record.value, ce_type, limit)
    except UnreadableEvent:
        return None
    account = opened.data.get("account", DEFAULT_ACCOUNT)
    if opened.type is None or not belongs_on(opened.type, record.topic) or not isinstance(account, str):
        return None
    ce_id = read_header(record.headers, "ce_id")
    return LiveEvent(opened.type.value, account, opened.data, _write(record.value, opened.data, ce_id))


def _write(value: bytes, data: dict[str, Any], ce_id: str | None) -> bytes:
    """The event as it was published, which spares writing it again; a stranger's may have lines of its own."""
    if b"\n" in value or b"\r" in value or value[:2] == b"{}" or value[:1] != b"{":
        value = orjson.dumps(data)
    if ce_id is None or "ce_id" in data:
        return value
    return b'{"ce_id":%b%b%b' % (orjson.dumps(ce_id), b"," if data else b"", value[1:])
