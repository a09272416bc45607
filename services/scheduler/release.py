"""Mail whose time has come goes back to `email.requested`."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from aiokafka.errors import KafkaError

from services.scheduler.delayed import Expiry, address_release, move_expiry
from services.scheduler.failures import SOURCE
from services.scheduler.store import SchedulerStore
from shared.due import DueRow
from shared.events import build_headers
from shared.producing import Ack, Message
from shared.publisher import EventTooLarge, Publisher
from shared.tracing import SpanKind, begin_hop

log = structlog.get_logger(__name__)


class Releaser:
    """Publishes leased rows (already `releasing`) and marks those the broker has acknowledged.

    What is not acknowledged within `patience` keeps its state and its lease, and is published again after it.
    """

    def __init__(
        self, store: SchedulerStore, requests: Publisher, topic: str, expiry: Expiry, patience: timedelta
    ) -> None:
        self._store = store
        self._requests = requests
        self._topic = topic
        self._expiry = expiry
        self._patience_s = patience.total_seconds()

    async def release(self, rows: Sequence[DueRow]) -> None:
        """Handle what the due loop has leased. Raises Unavailable."""
        acks: list[tuple[DueRow, Ack]] = []
        released: list[DueRow] = []
        try:
            async with asyncio.timeout(self._patience_s):
                for row in rows:
                    await self._send(row, acks)
                for row, ack in acks:
                    # Shielded: a cancelled future would not stop the producer, and hide what came of it.
                    await _confirm(row, asyncio.shield(ack), released)
        except TimeoutError:
            log.warning("kafka has not acknowledged in time", left=len(rows) - len(released))
        if released:
            await self._store.mark_released(released)
            log.info("released", mails=len(released))

    async def _send(self, row: DueRow, acks: list[tuple[DueRow, Ack]]) -> None:
        try:
            acks.append((row, await self._requests.send(self._build(row))))
        except EventTooLarge:
            log.error("the topic refuses a mail as too large; its max.message.bytes is too low", email_id=str(row.id))

    def _build(self, row: DueRow) -> Message:
        event: bytes = row.columns["event"]
        if row.columns["rescheduled_at"]:
            event = move_expiry(event, self._expiry.decide(row.columns["expires_at"], row.columns["due_at"]))
        event_type, key = address_release(event)
        hop = begin_hop("publish email.requested", SpanKind.PRODUCER, row.columns["traceparent"])
        hop.end()
        headers = build_headers(event_type, UUID(key), SOURCE, datetime.now(UTC), hop.traceparent)
        return Message(self._topic, key.encode(), event, headers)


async def _confirm(row: DueRow, ack: Ack, released: list[DueRow]) -> None:
    try:
        await ack
    except KafkaError as exc:
        log.warning("kafka refused a mail, it comes again", email_id=str(row.id), error=type(exc).__name__)
    else:
        released.append(row)
