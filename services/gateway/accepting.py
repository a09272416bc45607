"""Accepting a mail: it is accepted when the broker has acknowledged its event, and not before (P1)."""

from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from shared.events import EmailRequested, EventType, build_headers
from shared.metrics import EMAILS_ACCEPTED
from shared.producing import Message

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

    async def accept(self, email: EmailRequested, traceparent: str) -> UUID:
        """Returns the mail's id once the broker holds it. Raises TooLarge, PublishError."""
        assert email.id is not None
        value = email.to_json()
        if len(value) > self._limit:
            raise TooLarge(len(value), self._limit)
        time = email.requested_at or datetime.now(UTC)
        headers = build_headers(EventType.REQUESTED, email.id, SOURCE, time, traceparent)
        await self._publisher.publish(Message(self._topic, str(email.id).encode(), value, headers))
        EMAILS_ACCEPTED.inc()
        return email.id
