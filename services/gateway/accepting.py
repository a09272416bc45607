"""Accepting a mail: it is accepted when the broker has acknowledged its event, and not before (P1)."""

from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from shared.events import EmailRequested, EventType, build_headers
from shared.metrics import EMAILS_ACCEPTED
from shared.producing import Message
from shared.tracing import SpanKind, begin_hop, is_tracing

SOURCE = "/milena/gateway"


class TooLarge(Exception):
    """The serialised event has more bytes than the limit."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the event has {size} bytes, the limit is {limit}")
        self.size = size
        self.limit = limit


class EventPublisher(Protocol):
    """What accepting needs of a publisher."""

    async def publish(self, message: Message) -> None:
        """Publish and wait for the acknowledgement. Raises PublishError."""


class Acceptor:
    """Publishes mails to `topic`; `event_limit` is in bytes of the serialised event."""

    def __init__(self, publisher: EventPublisher, topic: str, event_limit: int) -> None:
        self._publisher = publisher
        self._topic = topic
        self._limit = event_limit

    async def accept(self, email: EmailRequested, traceparent: str | None) -> UUID:
        """The mail's id, once the broker holds it; `traceparent`: the request's. Raises TooLarge, PublishError."""
        assert email.id is not None
        value = email.to_json()
        if len(value) > self._limit:
            raise TooLarge(len(value), self._limit)
        time = email.requested_at or datetime.now(UTC)
        hop = begin_hop("publish email.requested", SpanKind.PRODUCER, traceparent)
        headers = build_headers(EventType.REQUESTED, email.id, SOURCE, time, hop.traceparent)
        try:
            await self._publisher.publish(Message(self._topic, str(email.id).encode(), value, headers))
        except Exception as exc:
            hop.end(error=type(exc).__name__)
            raise
        hop.end(attributes={"milena.email_id": str(email.id)} if is_tracing() else None)
        EMAILS_ACCEPTED.inc()
        return email.id
