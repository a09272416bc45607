"""From a record to work: who answers for it, and what it asks. Pure but for the metric it counts."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.sender.ledger import LedgerEntry
from services.sender.message import identify
from services.sender.results import refuse
from services.sender.work import Work
from shared.consuming import FaustTicket
from shared.events import (
    CancellationRequested,
    Coordinates,
    EmailFailed,
    EmailRequested,
    EventType,
    Source,
    UnreadableEvent,
    open_record,
    read_cancellation,
    read_email,
    read_header,
)
from shared.metrics import EVENTS_SKIPPED
from shared.tracing import continue_trace


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that cannot be sent, and the event that says so."""

    event: EmailFailed
    record: Coordinates
    ticket: FaustTicket


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Somebody asks that a mail be not sent any more."""

    event: CancellationRequested
    ticket: FaustTicket


@dataclass(frozen=True, slots=True)
class Skip:
    """Not ours: the scheduler's (R1), or of a type nobody here knows."""

    ticket: FaustTicket


@dataclass(frozen=True, slots=True)
class Intake:
    """Reads records. `cluster_id` is part of the identity of those that carry none."""

    cluster_id: str
    event_limit: int
    default_expiry: timedelta
    expiry_limit: timedelta = timedelta(days=7)  # no mail waits longer than the topic remembers it (P13)
    message_id_domain: str | None = None

    def read(self, ticket: FaustTicket, record: Coordinates) -> Work | Refusal | Cancellation | Skip:
        """One record, whatever it holds. Never raises for its content."""
        found = ticket.event.record
        headers = found.headers
        try:
            opened = open_record(found.value, read_header(headers, "ce_type"), self.event_limit)
            if opened.type is EventType.CANCELLATION_REQUESTED:
                return Cancellation(read_cancellation(opened), ticket)
            if opened.type is EventType.BULK_REQUESTED:
                raise UnreadableEvent([{"detail": "bulk events are not supported yet", "pointer": "/mails"}])
            if opened.type is not EventType.REQUESTED or opened.belongs_to_scheduler:
                EVENTS_SKIPPED.labels(why="scheduler" if opened.belongs_to_scheduler else "type").inc()
                return Skip(ticket)
            mail = read_email(opened, self.cluster_id, record)
        except UnreadableEvent as exc:
            return _refuse(ticket, record, exc.errors, exc.event_id)
        work = self.begin(mail, record.time, headers)
        work.tickets.append(ticket)
        return work

    def refuse(self, ticket: FaustTicket, detail: str) -> Refusal:
        """A record that is not to be looked at."""
        return _refuse(ticket, locate(ticket), [{"detail": detail, "pointer": ""}], None)

    def begin(self, mail: EmailRequested, accepted_at: datetime, headers: Any = None) -> Work:
        """Work on a mail accepted by Kafka at `accepted_at` (UTC)."""
        assert mail.id is not None, "read_email has given it one"
        identity = identify(mail.id, mail.from_, accepted_at, self.message_id_domain)
        entry = LedgerEntry(
            id=mail.id,
            account=mail.account,
            digest=mail.compute_digest(),
            message_id=identity.message_id,
            recipient_count=len(mail.recipients),
            accepted_at=accepted_at,
            expires_at=min(mail.expires_at or accepted_at + self.default_expiry, accepted_at + self.expiry_limit),
            echo=_echo(mail),
        )
        return Work(mail, entry, continue_trace(read_header(headers, "traceparent")))


def locate(ticket: FaustTicket) -> Coordinates:
    """Where the ticket's record lies."""
    record = ticket.event.record
    return Coordinates(record.topic, record.partition, record.offset, record.timestamp)


def _refuse(ticket: FaustTicket, record: Coordinates, errors: list[dict[str, str]], event_id: UUID | None) -> Refusal:
    source = Source(topic=record.topic, partition=record.partition, offset=record.offset)
    return Refusal(refuse(errors, event_id, source), record, ticket)


def _echo(mail: EmailRequested) -> dict[str, Any]:
    """What result events give back, without what is empty."""
    callback = mail.callback if isinstance(mail.callback, str | None) else mail.callback.model_dump()
    echo = {
        "callback": callback,
        "metadata": mail.metadata,
        "tags": mail.tags,
        "mailing_id": mail.mailing_id,
        "batch_id": mail.batch_id,
    }
    return {name: value for name, value in echo.items() if value}
