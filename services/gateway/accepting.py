"""Accepting a mail: it is accepted when the broker has acknowledged its event, and not before (P1)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol
from uuid import UUID

from shared.composing.composer import serialise
from shared.events import EmailRequested, EventType, build_headers, format_time
from shared.metrics import EMAILS_ACCEPTED
from shared.producing import Message
from shared.publisher import PublishError
from shared.tracing import SpanKind, begin_hop, is_tracing

SOURCE = "/milena/gateway"
_write_time = lru_cache(maxsize=16)(format_time)  # mails of a batch share it


class EventPublisher(Protocol):
    """What accepting needs of a publisher."""

    async def publish(self, message: Message) -> None:
        """Publish and wait for the acknowledgement. Raises PublishError."""

    async def publish_each(self, messages: Sequence[Message]) -> list[PublishError | None]:
        """The same for a group: what became of each. Raises PublishError, nothing written."""


class Acceptor:
    """Publishes mails to `topic`; `event_limit` is in bytes of the serialised event."""

    def __init__(self, publisher: EventPublisher, topic: str, event_limit: int) -> None:
        self._publisher = publisher
        self._topic = topic
        self._limit = event_limit

    async def accept(self, email: EmailRequested, traceparent: str | None) -> UUID:
        """The mail's id, once the broker holds it; `traceparent`: the request's. Raises TooLarge, PublishError."""
        assert email.id is not None
        hop = begin_hop("publish email.requested", SpanKind.PRODUCER, traceparent)
        try:
            await self._publisher.publish(self.prepare(email, hop.traceparent))
        except Exception as exc:
            hop.end(error=type(exc).__name__)
            raise
        hop.end(attributes={"milena.email_id": str(email.id)} if is_tracing() else None)
        EMAILS_ACCEPTED.inc()
        return email.id

    def prepare(self, email: EmailRequested, traceparent: str) -> Message:
        """The record of a mail. Raises TooLarge."""
        value = serialise(email, self._limit)
        key = str(email.id)
        time = _write_time(email.requested_at or datetime.now(UTC))
        return Message(
            self._topic, key.encode(), value, build_headers(EventType.REQUESTED, key, SOURCE, time, traceparent)
        )

    def prepare_bulk(self, bulk_id: UUID, value: bytes, requested_at: datetime, traceparent: str) -> Message:
        """The record of a bulk event; whoever wrote it has kept to the limit."""
        headers = build_headers(EventType.BULK_REQUESTED, bulk_id, SOURCE, _write_time(requested_at), traceparent)
        return Message(self._topic, str(bulk_id).encode(), value, headers)

    async def accept_all(
        self, prepared: Sequence[Message], counts: Sequence[int] | None = None
    ) -> list[PublishError | None]:
        """Publish in one go; None for each record that the broker holds. Raises PublishError, nothing written.

        `counts`: how many mails each of them holds; by default one.
        """
        ends = await self._publisher.publish_each(prepared)
        held = counts or [1] * len(ends)
        EMAILS_ACCEPTED.inc(sum(count for count, end in zip(held, ends, strict=True) if end is None))
        return ends
