"""Records of `email.requested` that concern the scheduler: mail to keep, and cancellations.

Everything else on the topic is the sender's, including what cannot be read at all (R1, R4).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import structlog

from services.scheduler.failures import describe_unreadable, to_message
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.pacing.rows import BulkRow, keep_bulk, keep_mail, merge_rows
from services.scheduler.waiting.delayed import DelayedMail, Expiry, delay, merge
from services.scheduler.waiting.store import SchedulerStore
from shared.batching import Record
from shared.events import (
    BulkRequested,
    CancellationRequested,
    EmailRequested,
    EventType,
    OpenedRecord,
    UnreadableEvent,
    open_record,
    read_bulk,
    read_cancellation,
    read_email,
)
from shared.metrics import EVENTS_SKIPPED
from shared.producing import Message
from shared.publisher import Publisher
from shared.tracing import find_trace_id
from shared.turns import take_turns

log = structlog.get_logger(__name__)

_ROWS_AT_ONCE = 2000


@dataclass(slots=True)
class _Batch:
    """What a batch of records asks for."""

    mails: list[DelayedMail] = field(default_factory=list)
    bulk: list[BulkRow] = field(default_factory=list)
    cancellations: list[CancellationRequested] = field(default_factory=list)
    refusals: list[Message] = field(default_factory=list)


class Intake:
    """Handles batches of records. Everything it does may happen twice."""

    def __init__(
        self,
        store: SchedulerStore,
        bulk: BulkStore,
        results: Publisher,
        *,
        on_bulk: Callable[[], None] = lambda: None,
        failed_topic: str,
        find_cluster_id: Callable[[], Awaitable[str]],
        expiry: Expiry,
        cancellation_kept: timedelta,
        event_limit: int,
        on_cancellations: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._bulk = bulk
        self._on_bulk = on_bulk
        self._results = results
        self._failed_topic = failed_topic
        self._find_cluster_id = find_cluster_id
        self._expiry = expiry
        self._cancellation_kept = cancellation_kept
        self._event_limit = event_limit
        self._on_cancellations = on_cancellations

    async def handle(self, records: Sequence[Record]) -> None:
        """Store what is ours, then tell what was refused; `on_cancellations` may tell those. Raises Unavailable."""
        cluster_id = await self._find_cluster_id()
        batch = _Batch()
        async for record in take_turns(records):
            self._sort(record, cluster_id, batch)
        if not (batch.mails or batch.bulk or batch.cancellations or batch.refusals):
            return
        await self._store.add(merge(batch.mails), batch.cancellations, self._cancellation_kept)
        await self._add_bulk(batch)
        if batch.cancellations:
            self._on_cancellations()
        if batch.refusals:
            await self._results.publish_all(batch.refusals)
        log.info(
            "taken in",
            mails=len(batch.mails),
            bulk=len(batch.bulk),
            cancellations=len(batch.cancellations),
            refused=len(batch.refusals),
        )

    async def _add_bulk(self, batch: _Batch) -> None:
        """Cancellations have been kept by now; whoever is cancelled here is told by a loop of its own."""
        rows = merge_rows(batch.bulk)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            await self._bulk.add(rows[start : start + _ROWS_AT_ONCE])
        if batch.cancellations:
            await self._bulk.cancel_mails([wish.id for wish in batch.cancellations])
        if rows:
            self._on_bulk()

    def _sort(self, record: Record, cluster_id: str, batch: _Batch) -> None:
        try:
            opened = open_record(record.value, record.header("ce_type"), self._event_limit)
        except UnreadableEvent:
            return  # the sender answers
        if opened.belongs_to_scheduler:
            self._take_mail(record, opened, cluster_id, batch)
        elif opened.type is EventType.CANCELLATION_REQUESTED:
            try:
                batch.cancellations.append(read_cancellation(opened))
            except UnreadableEvent:
                EVENTS_SKIPPED.labels(why="invalid_cancellation").inc()  # the sender answers
        elif opened.type not in (EventType.REQUESTED, EventType.BULK_REQUESTED):
            EVENTS_SKIPPED.labels(why="type").inc()

    def _take_mail(self, record: Record, opened: OpenedRecord, cluster_id: str, batch: _Batch) -> None:
        traceparent = _read_traceparent(record)
        mail_id: UUID | None = None
        try:
            event: EmailRequested | BulkRequested
            received_at, limit = record.coordinates.time, self._event_limit
            if opened.type is EventType.BULK_REQUESTED:
                event = read_bulk(opened, cluster_id, record.coordinates)
            else:
                event = read_email(opened, cluster_id, record.coordinates)
                mail_id = event.id if opened.data.get("id") is None else None
            if event.priority != "bulk":
                batch.mails.append(delay(event, received_at, traceparent, self._expiry, limit))
            elif isinstance(event, BulkRequested):
                batch.bulk.extend(keep_bulk(event, received_at, traceparent, limit))
            else:
                batch.bulk.append(keep_mail(event, received_at, traceparent, limit, len(batch.bulk)))
        except UnreadableEvent as exc:
            exc.event_id = exc.event_id or mail_id
            failed = describe_unreadable(exc, opened.data, record.coordinates)
            batch.refusals.append(to_message(failed, self._failed_topic, traceparent, record.coordinates))


def _read_traceparent(record: Record) -> str | None:
    """Only a valid one: the header is anybody's, and could hold what PostgreSQL's text does not."""
    traceparent = record.header("traceparent")
    return traceparent if find_trace_id(traceparent) else None
