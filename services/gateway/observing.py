"""Reading one record of the email topics: what it says of a mail, and its line in the timeline. Pure.

A record that cannot be read says nothing here: the sender answers for it with `email.failed` (R4).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from services.gateway.projection import Mail, Outcome, RequestSeen
from shared.addresses import Mailbox
from shared.batching import Record
from shared.events import (
    BulkRequested,
    EmailFailed,
    EmailRequested,
    EmailRescheduled,
    EmailSent,
    EventType,
    Namespace,
    UnreadableEvent,
    belongs_on,
    format_time,
    open_record,
    read_bulk,
    read_cancellation,
    read_email,
    read_model,
)
from shared.metrics import EVENTS_SKIPPED
from shared.states import FailureReason, RecipientState

# Requests keep to it. A result may say anything, but no index holds any length, and a batch must not fail for one.
_ACCOUNT_LIMIT = 64
_TIMELINE = Namespace(UUID("6d696c65-6e61-5000-8000-74696d656c6e"))


class Line(NamedTuple):
    """One line of a mail's timeline; `event_id` is the same whenever the same thing is told again."""

    email_id: UUID
    event_id: UUID
    type: str
    account: str
    at: datetime
    record: Record
    data: dict[str, Any]

    @property
    def position(self) -> tuple[datetime, str, int, int]:
        """Orders the records of one line, the same for everybody who sees them."""
        return (self.at, self.record.topic, self.record.partition, self.record.offset)


class Observation(NamedTuple):
    """What a record says. Of a cancellation, or a new time, a line only: no mail is made that nobody asked for."""

    line: Line
    mail: Mail | None


def observe(record: Record, cluster_id: str, event_limit: int) -> list[Observation]:
    """Read a record: what it says of a mail, of each mail of a bulk event, or of none."""
    try:
        opened = open_record(record.value, record.header("ce_type"), event_limit)
        match opened.type if opened.type and belongs_on(opened.type, record.topic) else None:
            case EventType.REQUESTED:
                email = read_email(opened, cluster_id, record.coordinates)
                return [_observe_request(email, email.compute_digest(), opened.belongs_to_scheduler, record)]
            case EventType.BULK_REQUESTED:
                bulk = read_bulk(opened, cluster_id, record.coordinates)
                return _observe_bulk(bulk, opened.belongs_to_scheduler, record)
            case EventType.CANCELLATION_REQUESTED:
                wish = read_cancellation(opened)
                key = _TIMELINE.name(f"{wish.id}\ncancel\n{wish.account}")
                return [_draw_only(wish.id, key, EventType.CANCELLATION_REQUESTED, wish.account, record, {})]
            case EventType.RESCHEDULED:
                return [_observe_rescheduled(read_model(opened, EmailRescheduled), record)]
            case EventType.SENT:
                return [_observe_sent(read_model(opened, EmailSent), record)]
            case EventType.FAILED:
                event = read_model(opened, EmailFailed)
                return [_observe_failed(event, event.id, record)] if event.id else []  # else nobody's mail
            case _:
                EVENTS_SKIPPED.labels(why="type").inc()
    except UnreadableEvent:
        if not belongs_on(EventType.REQUESTED, record.topic):
            EVENTS_SKIPPED.labels(why="unreadable").inc()  # a result, and nobody answers for it
    return []


def find_earliest(lines: Iterable[Line]) -> list[Line]:
    """Each line once: the earliest record that tells it."""
    found: dict[tuple[UUID, UUID], Line] = {}
    for line in lines:
        known = found.get((line.email_id, line.event_id))
        if known is None or line.position < known.position:
            found[line.email_id, line.event_id] = line
    return list(found.values())


def _observe_bulk(bulk: BulkRequested, held: bool, record: Record) -> list[Observation]:
    mails = bulk.list_mails()
    content = mails[0].fingerprint_content()
    return [_observe_request(mail, mail.compute_digest(content), held, record) for mail in mails]


def _observe_request(email: EmailRequested, digest: str, held: bool, record: Record) -> Observation:
    assert email.id is not None
    at = record.time
    seen = RequestSeen(  # by position: by name it takes twice as long
        digest,
        email.account,
        str(email.from_),
        _write(email.to),
        _write(email.cc),
        _write(email.bcc),
        tuple(email.recipients),
        email.subject,
        at,
        record.topic,
        record.partition,
        record.offset,
        email.metadata,
        email.api_key_id,
        tuple(email.tags),
        email.mailing_id,
        email.batch_id,
        str(email.retry_of) if email.retry_of else None,
        email.send_at,
        email.expires_at,
        email.test,
        email.requested_at,
    )
    mail = Mail(email.id, email.account, at, at, requests=(seen,), held=held, released=not held)
    data: dict[str, Any] = {"digest": digest, "held": held}
    if email.send_at:
        data["send_at"] = format_time(email.send_at)
    # The same request published three times is one thing that happened.
    own = str(email.id)
    key = _TIMELINE.name(f"{own}\n{digest}\n{held}")
    if record.header("ce_id") == own:  # so our own publishers name it; anything else is looked at more closely
        data["ce_id"] = own
        return Observation(Line(email.id, key, EventType.REQUESTED.value, email.account, at, record, data), mail)
    return Observation(_draw_line(email.id, key, EventType.REQUESTED, email.account, record, at, data), mail)


def _write(boxes: Sequence[Mailbox]) -> tuple[str, ...]:
    return tuple([str(box) for box in boxes]) if boxes else ()


def _draw_only(
    email_id: UUID, event_id: UUID, kind: EventType, account: str, record: Record, data: dict[str, Any]
) -> Observation:
    return Observation(_draw_line(email_id, event_id, kind, account, record, record.time, data), None)


def _observe_rescheduled(event: EmailRescheduled, record: Record) -> Observation:
    """A line only: anybody may publish where requests are published, and the scheduler alone knows the time."""
    data = {"send_at": format_time(event.send_at), "rescheduled_at": event.rescheduled_at.isoformat()}
    account = event.account[:_ACCOUNT_LIMIT]
    return _draw_only(event.id, event.event_id(), EventType.RESCHEDULED, account, record, data)


def _observe_sent(event: EmailSent, record: Record) -> Observation:
    at = record.time
    code = _read_code(event.response)
    told = [
        Outcome(address, RecipientState.SENT, event.attempt, at, code, None, event.response, None, event.relay)
        for address in event.recipients
    ]
    account = event.account[:_ACCOUNT_LIMIT]
    mail = Mail(
        event.id,
        account,
        at,
        at,
        outcomes=_with_summary(told, event, at),
        ledger_digest=event.digest or None,
        message_id=event.message_id,
        attempts=event.attempt,
        released=True,
        completed=event.complete,
    )
    data = {
        "attempt": event.attempt,
        "recipients": [{"address": address} for address in event.recipients],
        "relay": event.relay,
        "response": event.response,
        "message_id": event.message_id,
        "complete": event.complete,
    }
    line = _draw_line(event.id, event.event_id(), EventType.SENT, account, record, at, data)
    return Observation(line, mail)


def _observe_failed(event: EmailFailed, email_id: UUID, record: Record) -> Observation:
    at = record.time
    state = _state_of(event)
    told = [
        Outcome(
            each.address,
            state,
            event.attempt,
            at,
            smtp_code=each.smtp_code,
            enhanced_code=each.enhanced_code,
            response=each.diagnostic or None,
            reason=event.reason.value,
        )
        for each in event.recipients
    ]
    account = event.account[:_ACCOUNT_LIMIT]
    mail = Mail(
        email_id,
        account,
        at,
        at,
        outcomes=_with_summary(told, event, at),
        ledger_digest=event.digest or None,
        attempts=event.attempt,
        released=event.reason is not FailureReason.CANCELLED,
        refused=event.reason is FailureReason.INVALID_REQUEST,
        completed=event.complete,
    )
    data = {
        "attempt": event.attempt,
        "reason": event.reason.value,
        "final": event.final,
        "recipients": [each.model_dump(exclude_none=True) for each in event.recipients],
        "complete": event.complete,
        "errors": event.errors,
        "retry_at": format_time(event.retry_at) if event.retry_at else None,
    }
    line = _draw_line(email_id, event.event_id(), EventType.FAILED, account, record, at, data)
    return Observation(line, mail)


def _state_of(event: EmailFailed) -> RecipientState:
    if event.final:
        return RecipientState.FAILED
    return RecipientState.UNKNOWN if event.reason is FailureReason.UNKNOWN else RecipientState.DEFERRED


def _with_summary(told: list[Outcome], event: EmailSent | EmailFailed, at: datetime) -> tuple[Outcome, ...]:
    """The event's own recipients, and those only its `outcomes` name; their own events say more and win.

    "Pending" is what is not known. NUL, which no database keeps, would make two recipients of one.
    """
    if len(told) == 1 and "\0" not in told[0].address:
        address = told[0].address
        if not event.outcomes or (len(event.outcomes) == 1 and event.outcomes[0].address == address):
            return (told[0],)
    named = {outcome.address for outcome in told}
    summary = [
        Outcome(each.address, each.state, each.attempt, at)
        for each in event.outcomes or ()
        if each.address not in named and each.state is not RecipientState.PENDING
    ]
    found: dict[str, Outcome] = {}
    for each in (*told, *summary):
        address = each.address.replace("\0", "\ufffd")
        outcome = each if address == each.address else each._replace(address=address)
        found[address] = found[address].merge(outcome) if address in found else outcome
    return tuple(found[address] for address in sorted(found))


def _draw_line(
    email_id: UUID, event_id: UUID, kind: EventType, account: str, record: Record, at: datetime, data: dict[str, Any]
) -> Line:
    said = {name: value for name, value in data.items() if value is not None}
    written = record.header("ce_id")
    if written and written != str(event_id):
        ce_id = _read_uuid(written)
        if ce_id and ce_id != event_id:
            said["ce_id"] = str(ce_id)
    return Line(email_id, event_id, kind.value, account, at, record, said)


def _read_code(response: str) -> int | None:
    return int(response[:3]) if response[:3].isascii() and response[:3].isdigit() else None


def _read_uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
