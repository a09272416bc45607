"""From a record to work: who answers for it, and what it asks. Pure but for the metric it counts."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from services.sender.form import FormMemo
from services.sender.ledger import LedgerEntry
from services.sender.message import name_message
from services.sender.results import refuse
from services.sender.work import Work, new_token
from shared.consuming import FaustTicket
from shared.events import (
    BulkRequested,
    CancellationRequested,
    Coordinates,
    EmailFailed,
    EmailRequested,
    EventType,
    Source,
    UnreadableEvent,
    open_record,
    read_bulk,
    read_cancellation,
    read_email,
    read_header,
)
from shared.metrics import EVENTS_SKIPPED
from shared.tracing import SpanKind, begin_hop

_MAILS = (EventType.REQUESTED, EventType.BULK_REQUESTED)


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

    def read(self, ticket: FaustTicket, record: Coordinates) -> Work | list[Work] | Refusal | Cancellation | Skip:
        """One record, whatever it holds; a bulk event is the work of all its mails. Never raises for its content."""
        found = ticket.event.record
        headers = found.headers
        try:
            opened = open_record(found.value, read_header(headers, "ce_type"), self.event_limit)
            if opened.type is EventType.CANCELLATION_REQUESTED:
                return Cancellation(read_cancellation(opened), ticket)
            if opened.type not in _MAILS or opened.belongs_to_scheduler:
                EVENTS_SKIPPED.labels(why="scheduler" if opened.belongs_to_scheduler else "type").inc()
                return Skip(ticket)
            hop = begin_hop("receive email.requested", SpanKind.CONSUMER, read_header(headers, "traceparent"))
            hop.end()
            traceparent = hop.traceparent
            if opened.type is EventType.BULK_REQUESTED:
                bulk = read_bulk(opened, self.cluster_id, record)
                return self._begin_bulk(bulk, record.time, traceparent, ticket)
            mail = read_email(opened, self.cluster_id, record)
        except UnreadableEvent as exc:
            return _refuse(ticket, record, exc.errors, exc.event_id)
        work = self.begin(mail, record.time, traceparent)
        work.tickets.append(ticket)
        return work

    def refuse(self, ticket: FaustTicket, detail: str) -> Refusal:
        """A record that is not to be looked at."""
        return _refuse(ticket, locate(ticket), [{"detail": detail, "pointer": ""}], None)

    def begin(self, mail: EmailRequested, accepted_at: datetime, traceparent: str | None) -> Work:
        """Work on a mail accepted by Kafka at `accepted_at` (UTC)."""
        return self._begin(mail, self._share(mail, accepted_at, traceparent), mail.compute_digest(), _echo(mail))

    def _begin_bulk(
        self, bulk: BulkRequested, accepted_at: datetime, traceparent: str | None, ticket: FaustTicket
    ) -> list[Work]:
        mails = bulk.list_mails()
        fingerprint, echo = mails[0].fingerprint_content(), _echo(mails[0].model_copy(update={"metadata": {}}))
        shared = self._share(mails[0], accepted_at, traceparent)
        works = []
        memo = FormMemo()
        for mail in mails:
            own_echo = {**echo, "metadata": mail.metadata} if mail.metadata else echo
            work = self._begin(mail, shared, mail.compute_digest(fingerprint), own_echo)
            work.tickets.append(ticket)
            work.memo = memo
            works.append(work)
        ticket.shares = len(works)
        return works

    def _share(self, mail: EmailRequested, accepted_at: datetime, traceparent: str | None) -> "_Shared":
        expires_at = min(mail.expires_at or accepted_at + self.default_expiry, accepted_at + self.expiry_limit)
        domain = self.message_id_domain or mail.from_.domain
        return _Shared(accepted_at, expires_at, domain, traceparent, new_token())

    def _begin(self, mail: EmailRequested, shared: "_Shared", digest: str, echo: dict[str, Any]) -> Work:
        assert mail.id is not None, "reading has given it one"
        id_text = str(mail.id)
        entry = LedgerEntry(
            id=mail.id,
            account=mail.account,
            digest=digest,
            message_id=name_message(id_text, mail.from_, shared.domain),
            recipient_count=len(mail.recipients),
            accepted_at=shared.accepted_at,
            expires_at=shared.expires_at,
            echo=echo,
            id_text=id_text,
        )
        return Work(mail, entry, shared.traceparent, token=shared.token)


class _Shared(NamedTuple):
    """What the mails of a bulk event have in common beside their content; `domain` is that of their Message-IDs.

    One token does for all: with the id it says whose claim it is, and no event names an id twice.
    """

    accepted_at: datetime
    expires_at: datetime
    domain: str
    traceparent: str | None
    token: UUID


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
        "test": mail.test,
        "paced": mail.paced,
    }
    return {name: value for name, value in echo.items() if value}
