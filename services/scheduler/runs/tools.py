"""What built-in jobs reach the world with: the topic of mail, and the table of runs."""

from datetime import UTC, datetime, timedelta

from services.scheduler.failures import SOURCE
from services.scheduler.runs.job import MailingWork
from services.scheduler.runs.store import RunStore
from shared.events import EmailRequested, EventType, build_headers
from shared.producing import Message
from shared.publisher import OutcomeUnknown, Publisher
from shared.retrying import Unavailable
from shared.tracing import SpanKind, begin_hop

_PURGED_AT_ONCE = 5000


class KafkaTools:
    """As `job.Tools` wants it."""

    def __init__(self, publisher: Publisher, topic: str, store: RunStore, mailings: MailingWork) -> None:
        self.mailings: MailingWork = mailings
        self._publisher = publisher
        self._topic = topic
        self._store = store

    async def publish_email(self, email: EmailRequested) -> None:
        """Publish a mail and wait for the acknowledgement. Raises Unavailable, EventTooLarge.

        Whether or not it was published then: next time it is the same mail.
        """
        assert email.id is not None, "a job gives every mail its id"
        hop = begin_hop("publish email.requested", SpanKind.PRODUCER, None)
        headers = build_headers(EventType.REQUESTED, email.id, SOURCE, datetime.now(UTC), hop.traceparent)
        try:
            await self._publisher.publish(Message(self._topic, str(email.id).encode(), email.to_json(), headers))
        except OutcomeUnknown as exc:
            raise Unavailable(str(exc)) from exc
        finally:
            hop.end()

    async def purge(self, account: str, older_than_days: float, *, test_only: bool) -> int:
        """Delete old runs, some thousand at once. Raises Unavailable."""
        total, deleted = 0, _PURGED_AT_ONCE
        while deleted >= _PURGED_AT_ONCE:
            deleted = await self._store.purge(
                account, timedelta(days=older_than_days), _PURGED_AT_ONCE, test_only=test_only
            )
            total += deleted
        return total
