"""Results of bulk mail come back: each mail leaves the window with its first, and its lane counts its end."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import structlog

from services.scheduler.pacing.settling_store import Result, SettlingStore
from services.scheduler.pacing.states import ENDS, BulkState
from shared.batching import Record
from shared.events import EventType, belongs_on
from shared.metrics import BULK_RESULTS, EVENTS_SKIPPED
from shared.states import FailureReason

log = structlog.get_logger(__name__)

_MARK = b'"paced":true'  # as the sender writes what it echoes; somebody's text may hold it, too, and costs a look-up
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ATTEMPTS = 2**31  # a number that the database keeps
_DETAIL_LIMIT = 500  # characters
_STATES_BY_REASON: dict[object, BulkState] = {
    FailureReason.CANCELLED: BulkState.CANCELLED,
    FailureReason.EXPIRED: BulkState.EXPIRED,
}


class Results:
    """Handles batches of `email.sent` and `email.failed`. Everything it does may happen twice.

    Most of what it reads is not bulk: a record without the mark is not even parsed.
    """

    def __init__(self, store: SettlingStore, on_room: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._on_room = on_room

    async def handle(self, records: Sequence[Record]) -> None:
        """Note what the records say of bulk mail. Raises Unavailable."""
        newest: dict[str, Result] = {}
        for record in records:
            if record.value and _MARK in record.value:
                found = read_result(record)
                if found:
                    known = newest.get(found.id)
                    newest[found.id] = found if known is None else choose(known, found)
        if not newest:
            return
        changed = await self._store.settle([newest[key] for key in sorted(newest)])
        BULK_RESULTS.inc(changed)
        self._on_room()


def read_result(record: Record) -> Result | None:
    """What the record says of a mail; None: nothing that counts here."""
    kind = record.header("ce_type")
    if kind not in (EventType.SENT, EventType.FAILED) or not belongs_on(EventType(kind), record.topic):
        return None
    try:
        data = orjson.loads(record.value or b"")
        if not data.get("paced"):
            return None
        email_id, attempt = data["id"].lower(), data["attempt"]
        if not _ID.fullmatch(email_id) or type(attempt) is not int or not 0 <= attempt < _ATTEMPTS:
            raise ValueError("no id, or no attempt")
        state = _find_state(kind, data)
        if state is BulkState.SENT:
            return Result(email_id, state, attempt)
        return Result(email_id, state, attempt, *_find_reason(data))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        EVENTS_SKIPPED.labels(why="unreadable").inc()
        return None


def choose(one: Result, other: Result) -> Result:
    """The result that counts of two: an end, else the higher attempt, and "unknown" says more than "deferred"."""
    return max(one, other, key=lambda result: (result.state in ENDS, result.attempt, result.state))


def _find_state(kind: str, data: dict[str, Any]) -> BulkState:
    """Where the mail stands after a result."""
    if not data.get("complete"):
        return BulkState.UNKNOWN if data.get("reason") == FailureReason.UNKNOWN else BulkState.DEFERRED
    states = {outcome["state"] for outcome in data.get("outcomes") or ()}
    if "sent" in states or (kind == EventType.SENT and not states):
        return BulkState.SENT if len(states) <= 1 else BulkState.PARTIALLY_SENT
    if len(data.get("recipients") or ()) < len(data.get("outcomes") or ()):
        return BulkState.FAILED  # for several reasons
    return _STATES_BY_REASON.get(data.get("reason"), BulkState.FAILED)


def _find_reason(data: dict[str, Any]) -> tuple[str | None, str | None]:
    """Why it failed, in one word and in those of whoever refused it."""
    reason = data.get("reason")
    first = (data.get("recipients") or [None])[0]
    if not isinstance(reason, str) or not isinstance(first, dict):
        return (reason if isinstance(reason, str) else None), None
    code, words = first.get("smtp_code"), str(first.get("diagnostic") or "")
    told = f"{code} {words}" if code and not words.startswith(str(code)) else words
    return reason, told.replace("\0", "")[:_DETAIL_LIMIT] or None
