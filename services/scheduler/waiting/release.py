"""Mail whose time has come goes back to `email.requested`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import structlog

from services.scheduler.failures import SOURCE
from services.scheduler.waiting.delayed import Expiry, address_release, move_expiry
from services.scheduler.waiting.store import SchedulerStore
from shared.due import DueRow
from shared.events import build_headers
from shared.metrics import RELEASE_LAG, observe_all
from shared.producing import Message
from shared.publisher import Publisher
from shared.tracing import SpanKind, begin_hop

log = structlog.get_logger(__name__)


class Releaser:
    """Publishes leased rows (already `releasing`) and marks those the broker has acknowledged.

    What is not acknowledged in time keeps its state and its lease, and is published again after it.
    """

    def __init__(
        self, store: SchedulerStore, requests: Publisher, topic: str, expiry: Expiry, event_limit: int
    ) -> None:
        self._store = store
        self._requests = requests
        self._topic = topic
        self._expiry = expiry
        self._event_limit = event_limit

    async def release(self, rows: Sequence[DueRow]) -> None:
        """Handle what the due loop has leased. Raises Unavailable, PublishError."""
        fitting = [row for row in rows if self._fits(row)]
        if not fitting:
            return
        ends = await self._requests.publish_each([self._build(row) for row in fitting])
        released = [row for row, end in zip(fitting, ends, strict=True) if end is None]
        if len(released) < len(fitting):
            log.warning("kafka has not acknowledged all, the others come again", left=len(fitting) - len(released))
        if released:
            await self._store.mark_released(released)
            self._observe(released)
            log.info("released", mails=len(released))

    def _fits(self, row: DueRow) -> bool:
        """One that is larger than what is read today would hold up all that are handed over behind it."""
        if len(row.columns["event"]) <= self._event_limit:
            return True
        log.error("a mail is larger than MILENA_EVENT_LIMIT now allows, and cannot leave", email_id=str(row.id))
        return False

    def _observe(self, rows: Sequence[DueRow]) -> None:
        now = datetime.now(UTC)
        observe_all(RELEASE_LAG, [max(0.0, (now - row.columns["due_at"]).total_seconds()) for row in rows])

    def _build(self, row: DueRow) -> Message:
        event: bytes = row.columns["event"]
        if moved_at := row.columns["rescheduled_at"]:
            leaves_at = max(row.columns["due_at"], moved_at)  # a time that is over means at once
            event = move_expiry(event, self._expiry.decide(row.columns["expires_at"], leaves_at))
        event_type, key = address_release(event)
        hop = begin_hop("publish email.requested", SpanKind.PRODUCER, row.columns["traceparent"])
        hop.end()
        headers = build_headers(event_type, UUID(key), SOURCE, datetime.now(UTC), hop.traceparent)
        return Message(self._topic, key.encode(), event, headers)
