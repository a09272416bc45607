"""Requests and answers without any network: what is asked, and what came back. Pure."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import quote
from uuid import uuid4

EMAILS, BATCH, BULK, EVENTS = "/v1/emails", "/v1/emails/batch", "/v1/emails/bulk", "/v1/events"
TASKS, JOBS = "/v1/tasks", "/v1/jobs"
UPLOADS, SCHEDULED = "/v1/batches", "/v1/scheduled"
BATCH_LIMIT = 1000  # mails in one request
BATCH_BYTES = 8 * 1024 * 1024  # of JSON; the gateway takes twice as many unless it is told otherwise
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Call:
    """One request. A repeat of it does no harm: it reads, or has a key, or asks for what is done once anyway.

    `is_once`: a repeat would do it again. `is_slow`: the server works on it for as long as it takes.
    """

    method: str
    path: str
    params: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    is_once: bool = False
    is_slow: bool = False


@dataclass(frozen=True)
class Answer:
    """What the server said; names of headers in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)

    def read(self) -> dict[str, Any]:
        """The body's JSON object."""
        content: dict[str, Any] = json.loads(self.body)
        return content


@dataclass(frozen=True)
class Lost:
    """There was no answer; `why` names what happened."""

    why: str


@dataclass(frozen=True)
class Pause:
    """Nothing is to be done for a while."""

    seconds: float


def write_lines(items: Iterable[Mapping[str, Any]]) -> bytes:
    """An item a line."""
    return b"".join(_write(item) + b"\n" for item in items)


def send(mail: Mapping[str, Any], idempotency_key: str | None) -> Call:
    """Send one mail, once for each key."""
    return write_json("POST", EMAILS, mail, name_key(idempotency_key))


def cut_batch(mails: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Mails, or recipients, by as many as one request takes: BATCH_LIMIT of them, and about BATCH_BYTES."""
    some: list[Mapping[str, Any]] = []
    weight = 0
    for mail in mails:
        own = len(json.dumps(mail))
        if some and (len(some) == BATCH_LIMIT or weight + own > BATCH_BYTES):
            yield some
            some, weight = [], 0
        some.append(mail)
        weight += own
    if some:
        yield some


def send_batch(mails: Sequence[Mapping[str, Any]], idempotency_key: str | None) -> Call:
    """Send many mails, once for each key."""
    return write_json("POST", BATCH, {"emails": list(mails)}, name_key(idempotency_key))


def send_bulk(content: Mapping[str, Any], recipients: Sequence[Mapping[str, Any]], idempotency_key: str | None) -> Call:
    """Send one content to many, once for each key."""
    return write_json("POST", BULK, {**content, "recipients": list(recipients)}, name_key(idempotency_key))


def upload(items: Iterable[Mapping[str, Any]], params: Mapping[str, str], idempotency_key: str | None) -> Call:
    """Upload a batch, an item a line, once for each key."""
    headers = {"content-type": "application/x-ndjson", **name_key(idempotency_key)}
    return Call("POST", UPLOADS, params, headers, write_lines(items))


def read_batch(batch_id: str) -> Call:
    """Ask how a batch stands."""
    return Call("GET", f"{UPLOADS}/{quote(batch_id, safe='')}")


def change_batch(batch_id: str, change: str) -> Call:
    """Pause, resume, cancel or retry a batch; asked twice it is done once."""
    return Call("POST", f"{UPLOADS}/{quote(batch_id, safe='')}/{change}")


def read_status(email_id: str) -> Call:
    """Ask where a mail stands."""
    return Call("GET", _path(email_id))


def read_timeline(email_id: str) -> Call:
    """Ask what has happened to a mail."""
    return Call("GET", f"{_path(email_id)}/events")


def cancel(email_id: str) -> Call:
    """Ask that a mail be not sent; asked twice it is asked once."""
    return Call("POST", f"{_path(email_id)}/cancel")


def retry(email_id: str, *, include_unknown: bool) -> Call:
    """Ask that a mail be tried again; while a retry is on its way no second one begins."""
    return write_json("POST", f"{_path(email_id)}/retry", {"include_unknown": include_unknown})


def create_task(task: Mapping[str, Any]) -> Call:
    """Make a task; of two with one name the second is refused."""
    return write_json("POST", TASKS, task)


def update_task(task_id: int, changes: Mapping[str, Any]) -> Call:
    """Change what is given of a task."""
    return write_json("PATCH", f"{TASKS}/{task_id}", changes)


def list_tasks() -> Call:
    """Ask for some of the tasks."""
    return Call("GET", TASKS, {"limit": "100"})


def list_jobs() -> Call:
    """Ask which jobs there are."""
    return Call("GET", JOBS)


def reschedule(email_id: str, send_at: str) -> Call:
    """Ask that a mail that waits leave at another time; asked twice it is the same time."""
    return write_json("PATCH", f"{SCHEDULED}/{quote(email_id, safe='')}", {"send_at": send_at})


def list_scheduled(filters: Mapping[str, str]) -> Call:
    """Ask for mail that waits."""
    return Call("GET", SCHEDULED, filters)


def _path(email_id: str) -> str:
    return f"{EMAILS}/{quote(email_id, safe='')}"


def write_json(
    method: str, path: str, content: Any, headers: Mapping[str, str] = _NONE, *, is_once: bool = False
) -> Call:
    """A request with a body of JSON."""
    headers = {"content-type": "application/json", **headers}
    return Call(method, path, headers=headers, body=_write(content), is_once=is_once)


def _write(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def name_key(idempotency_key: str | None) -> dict[str, str]:
    """The header of a key, one of its own where none is given. Raises ValueError."""
    key = idempotency_key or str(uuid4())
    if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise ValueError("an idempotency key has 1 to 255 printable ASCII characters")
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return {"idempotency-key": f'"{escaped}"'}  # a string of RFC 8941
