"""Results onto their topics, in their order."""

from collections.abc import Sequence
from datetime import UTC, datetime

from services.sender.results import Result, announce
from services.sender.work import Work
from shared.events import Coordinates, EmailFailed, EmailSent, EventType, build_headers
from shared.publisher import Message, Publisher
from shared.topics import Topics

SOURCE = "/milena/sender"


class Announcer:
    """Publishes what the ledger says. Every event may be published twice; its `ce_id` is the same then."""

    def __init__(self, publisher: Publisher, topics: Topics) -> None:
        self._publisher = publisher
        self._topics = topics

    async def publish(self, works: Sequence[Work]) -> None:
        """All events of a group; those that complete a mail only after the others are acknowledged."""
        first: list[Message] = []
        completing: list[Message] = []
        for work in works:
            announcement = announce(work.entry, only_attempt=work.attempt_announced)
            first.extend(self._to_message(each, work.traceparent) for each in announcement.events)
            if announcement.completing:
                completing.append(self._to_message(announcement.completing, work.traceparent))
        if first:
            await self._publisher.publish_all(first)
        await self._publisher.publish_all(completing)

    async def publish_refusals(self, refusals: Sequence[tuple[EmailFailed, Coordinates]]) -> None:
        """Answers to records nobody can read."""
        await self._publisher.publish_all([self._to_message(event, None, record) for event, record in refusals])

    def _to_message(self, event: Result, traceparent: str | None, record: Coordinates | None = None) -> Message:
        if isinstance(event, EmailSent):
            topic, kind, at, event_id = self._topics.sent, EventType.SENT, event.sent_at, event.event_id()
        else:
            at = event.failed_at or _time_of(record)
            topic, kind, event_id = self._topics.failed, EventType.FAILED, event.event_id(record)
        headers = build_headers(kind, event_id, SOURCE, at, traceparent)
        return Message(topic, str(event.id).encode() if event.id else None, event.to_json(), headers)


def _time_of(record: Coordinates | None) -> datetime:
    return datetime.fromtimestamp(record.timestamp_ms / 1000, UTC) if record else datetime.now(UTC)
