"""Results become deliveries: `email.sent` and `email.failed` are read, and what they ask for is kept."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import structlog

from services.callback.deliveries import Delivery, plan_delivery
from services.callback.store import CallbackStore
from shared.batching import Record
from shared.events import EmailFailed, EmailSent, EventType, OpenedRecord, UnreadableEvent, open_record
from shared.metrics import EVENTS_SKIPPED
from shared.topics import EVENT_HEADROOM
from shared.tracing import SpanKind, begin_hop, find_trace_id, is_tracing
from shared.turns import take_turns

log = structlog.get_logger(__name__)

_MODELS: dict[EventType, type[EmailSent] | type[EmailFailed]] = {
    EventType.SENT: EmailSent,
    EventType.FAILED: EmailFailed,
}


class Intake:
    """Handles batches of records; a batch handled twice leaves what one leaves. `on_new` is told of fresh rows."""

    def __init__(self, store: CallbackStore, *, on_new: Callable[[], None], event_limit: int) -> None:
        self._store = store
        self._on_new = on_new
        self._event_limit = event_limit

    async def handle(self, records: Sequence[Record]) -> None:
        """Keep what the records ask for. Raises Unavailable."""
        wanted = [record for record in records if _may_want(record)]
        planned = [delivery async for record in take_turns(wanted) if (delivery := self._plan(record))]
        if planned and await self._store.add(planned):
            self._on_new()

    def _plan(self, record: Record) -> Delivery | None:
        try:
            opened = open_record(record.value, record.header("ce_type"), self._event_limit + EVENT_HEADROOM)
            model = _MODELS.get(opened.type) if opened.type else None
            if model is None:
                EVENTS_SKIPPED.labels(why="type").inc()
                return None
            if opened.data.get("callback") is None:
                return None  # most mail wants none: no need to look closer
            return _check(_read(record, opened, model.model_validate(opened.data)))
        except (UnreadableEvent, ValueError, TypeError, OverflowError):
            # Whoever wrote it is no service of ours, and there is nobody to answer to.
            log.warning(
                "unreadable result skipped", topic=record.topic, partition=record.partition, offset=record.offset
            )
            EVENTS_SKIPPED.labels(why="unreadable").inc()
            return None


def _may_want(record: Record) -> bool:
    """Most mail wants no callback: where the word is not in the bytes, no need to parse them.

    A key can also be written with escapes, and what holds no object at all is told of as unreadable.
    """
    value = record.value
    return not value or b'"callback"' in value or b"\\u" in value or value[:1] != b"{" or value[-1:] != b"}"


def _read(record: Record, opened: OpenedRecord, event: EmailSent | EmailFailed) -> Delivery | None:
    event_id = _parse_id(record.header("ce_id")) or (
        event.event_id(record.coordinates) if isinstance(event, EmailFailed) else event.event_id()
    )
    time = _parse_time(record.header("ce_time")) or record.coordinates.time
    return plan_delivery(event, event_id, time, opened.data, _read_trace(record, str(opened.type)))


def _read_trace(record: Record, name: str) -> str | None:
    traceparent = record.header("traceparent")
    if not find_trace_id(traceparent):
        return None
    if not is_tracing():
        return traceparent
    hop = begin_hop(f"receive {name}", SpanKind.CONSUMER, traceparent)
    hop.end()
    return hop.traceparent


def _check(delivery: Delivery | None) -> Delivery | None:
    """PostgreSQL's text holds no NUL, and one record must not stop its partition. Raises UnreadableEvent."""
    if delivery and "\x00" in delivery.url + delivery.account:
        raise UnreadableEvent([{"detail": "contains NUL", "pointer": "/callback"}])
    return delivery


def _parse_id(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _parse_time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return time if time and time.tzinfo else None
