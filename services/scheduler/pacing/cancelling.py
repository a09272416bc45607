"""Telling that bulk mail was cancelled before it left (R7)."""

from collections.abc import Sequence
from uuid import UUID

import orjson

from services.scheduler.failures import describe_cancelled, to_message
from services.scheduler.pacing.contents import Contents
from services.scheduler.pacing.messages import Bodies
from services.scheduler.pacing.rows import make_whole
from services.scheduler.pacing.store import CancelledMail, PacingStore
from shared.due import DueRow
from shared.events import EmailRequested
from shared.producing import Message
from shared.publisher import Publisher


class Teller:
    """Publishes `email.failed` for the mails of a group that have been cancelled."""

    def __init__(self, store: PacingStore, results: Publisher, failed_topic: str) -> None:
        self._store = store
        self._results = results
        self._topic = failed_topic
        self._contents = Contents(store)

    async def tell(self, groups: Sequence[DueRow]) -> None:
        """Handle leased groups. Raises Unavailable, PublishError."""
        for group in groups:
            mails = await self._store.list_cancelled(group)
            places: list[tuple[int, UUID]] = sorted({(mail.lane, mail.content) for mail in mails if mail.content})
            bodies = await self._contents.load(places)
            await self._results.publish_all([self._describe(mail, bodies) for mail in mails])
            await self._store.finish(group)

    def _describe(self, mail: CancelledMail, bodies: Bodies) -> Message:
        whole = make_whole(mail.id, bodies[mail.lane, mail.content], mail.own) if mail.content else mail.own
        event = EmailRequested.model_validate(orjson.loads(whole))
        return to_message(describe_cancelled(event, mail.cancelled_at), self._topic, mail.traceparent)
