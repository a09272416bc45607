"""What happened to mail that waits is told: it was cancelled, or moved to another time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog

from services.scheduler.failures import SOURCE, describe_cancelled, to_message
from services.scheduler.waiting.delayed import list_mails
from services.scheduler.waiting.store import ANNOUNCEMENTS, SchedulerStore, ToldMail
from shared.database import Database
from shared.due import DueRow
from shared.events import EmailRescheduled, EventType, build_headers
from shared.producing import Message
from shared.publisher import Publisher
from shared.topics import Topics
from shared.tracing import SpanKind, begin_hop

log = structlog.get_logger(__name__)


class Announcer:
    """Publishes what the rows of `announcement` say, and deletes those the broker has acknowledged.

    The rows are written together with what they tell, by whoever did it: the intake, or the API.
    """

    def __init__(self, database: Database, store: SchedulerStore, publisher: Publisher, topics: Topics) -> None:
        self._database = database
        self._store = store
        self._publisher = publisher
        self._topics = topics

    async def announce(self, rows: Sequence[DueRow]) -> None:
        """Handle what the due loop has leased. Raises Unavailable."""
        mails = await self._store.find_told(sorted({row.columns["mail_id"] for row in rows}))
        told: list[DueRow] = []
        messages: list[Message] = []
        for row in rows:
            mail = mails.get(row.columns["mail_id"])
            try:
                messages += tell(row.columns, mail, self._topics) if mail else []
            except ValueError as exc:  # taken in by a release that read it; the others are told without it
                mail_id = str(row.columns["mail_id"])
                log.error("cannot tell what happened to a mail", email_id=mail_id, error=type(exc).__name__)
            else:
                told.append(row)
        await self._publisher.publish_all(messages)
        cancelled = [row.columns["mail_id"] for row in told if row.columns["kind"] == "cancelled"]
        if cancelled:
            await self._store.mark_announced(cancelled)
        await ANNOUNCEMENTS.finish(self._database, told)
        log.info("told", cancelled=len(cancelled), rescheduled=len(told) - len(cancelled))


def tell(columns: dict[str, Any], mail: ToldMail, topics: Topics) -> list[Message]:
    """The records of one row of `announcement`: of a bulk event one for each of its mails."""
    if columns["kind"] == "rescheduled":
        return _tell_rescheduled(mail, columns["send_at"], columns["at"], topics.requested)
    if mail.event is None:  # told already, by a process that died before it had deleted the row
        return []
    told = [describe_cancelled(each, columns["at"]) for each in list_mails(mail.event)]
    return [to_message(each, topics.failed, mail.traceparent) for each in told]


def _tell_rescheduled(mail: ToldMail, send_at: datetime, at: datetime, topic: str) -> list[Message]:
    if not mail.is_bulk:
        ids = [mail.id]
    elif mail.event:
        ids = [each.id for each in list_mails(mail.event) if each.id]
    else:
        ids = []  # it has left meanwhile, and whose it was is not known any more
    told = [EmailRescheduled(id=each, send_at=send_at, rescheduled_at=at, account=mail.account) for each in ids]
    return [_build(event, topic, mail.traceparent) for event in told]


def _build(event: EmailRescheduled, topic: str, traceparent: str | None) -> Message:
    hop = begin_hop(f"publish {EventType.RESCHEDULED}", SpanKind.PRODUCER, traceparent)
    hop.end()
    headers = build_headers(EventType.RESCHEDULED, event.event_id(), SOURCE, event.rescheduled_at, hop.traceparent)
    return Message(topic, str(event.id).encode(), event.to_json(), headers)
