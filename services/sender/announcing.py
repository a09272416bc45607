"""Results onto their topics, in their order."""

from collections.abc import Sequence

from services.sender.results import Told, Writer, Written, announce
from services.sender.work import Work
from shared.events import Coordinates, EmailFailed, EventType, build_headers
from shared.producing import Message
from shared.publisher import Publisher
from shared.topics import Topics
from shared.tracing import SpanKind, begin_hop, is_tracing

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
        writer = Writer()
        for work in works:
            if written := writer.write(work.entry, work.attempt_announced):
                completing.append(self._to_message(written, work.traceparent))
                continue
            announcement = announce(work.entry, only_attempt=work.attempt_announced)
            first.extend(self._to_message(_write(each), work.traceparent) for each in announcement.events)
            if announcement.completing:
                completing.append(self._to_message(_write(announcement.completing), work.traceparent))
        if first:
            await self._publisher.publish_all(first)
        await self._publisher.publish_all(completing)

    async def publish_refusals(self, refusals: Sequence[tuple[EmailFailed, Coordinates]]) -> None:
        """Answers to records nobody can read."""
        messages = []
        for event, record in refusals:
            headers = build_headers(EventType.FAILED, event.event_id(record), SOURCE, record.time, None)
            key = str(event.id).encode() if event.id else None
            messages.append(Message(self._topics.failed, key, event.to_json(), headers))
        await self._publisher.publish_all(messages)

    def _to_message(self, event: Written, traceparent: str | None) -> Message:
        topic = self._topics.sent if event.type is EventType.SENT else self._topics.failed
        if is_tracing():
            hop = begin_hop(f"publish {event.type.value}", SpanKind.PRODUCER, traceparent)
            hop.end(attributes={"milena.email_id": event.email_id.decode()})
            traceparent = hop.traceparent
        headers = build_headers(event.type, event.event_id, SOURCE, event.at, traceparent)
        return Message(topic, event.email_id, event.value, headers)


def _write(told: Told) -> Written:
    return Written(told.type, told.data["id"].encode(), told.event_id, told.at, told.to_json())
