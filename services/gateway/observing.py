"""Reading one record of the email topics: what it says of a mail, and its line in the timeline. Pure.

A record that cannot be read says nothing here: the sender answers for it with `email.failed` (R4).
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from services.gateway.lines import Line, Observation, draw_line
from services.gateway.outcomes import ACCOUNT_LIMIT, observe_failed, observe_plain, observe_sent
from services.gateway.plain_results import read_plain_sent
from services.gateway.projection import Mail, RequestSeen
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

_TIMELINE = Namespace(UUID("6d696c65-6e61-5000-8000-74696d656c6e"))


def observe(record: Record, cluster_id: str, event_limit: int) -> list[Observation]:
    """Read a record: what it says of a mail, of each mail of a bulk event, or of none."""
    try:
        opened = open_record(record.value, record.header("ce_type"), event_limit)
        match opened.type if opened.type and belongs_on(opened.type, record.topic) else None:
            case EventType.REQUESTED:
                email = read_email(opened, cluster_id, record.coordinates)
                named = record.header("ce_id")
                seen = _see_request(email, email.compute_digest(), record)
                place = _drop_value(record) if email.paced else record
                return [_observe_request(email, seen, opened.belongs_to_scheduler, place, named)]
            case EventType.BULK_REQUESTED:
                bulk = read_bulk(opened, cluster_id, record.coordinates)
                place = _drop_value(record) if bulk.paced else record
                return _observe_bulk(bulk, opened.belongs_to_scheduler, place)
            case EventType.CANCELLATION_REQUESTED:
                wish = read_cancellation(opened)
                key = _TIMELINE.name(f"{wish.id}\ncancel\n{wish.account}")
                return [_draw_only(wish.id, key, EventType.CANCELLATION_REQUESTED, wish.account, record, {})]
            case EventType.RESCHEDULED:
                return [_observe_rescheduled(read_model(opened, EmailRescheduled), record)]
            case EventType.SENT:
                plain = read_plain_sent(opened.data)
                place = _drop_value(record)
                return [observe_plain(plain, place) if plain else observe_sent(read_model(opened, EmailSent), place)]
            case EventType.FAILED:
                event = read_model(opened, EmailFailed)
                return [observe_failed(event, event.id, _drop_value(record))] if event.id else []  # else nobody's mail
            case _:
                EVENTS_SKIPPED.labels(why="type").inc()
    except UnreadableEvent:
        if not belongs_on(EventType.REQUESTED, record.topic):
            EVENTS_SKIPPED.labels(why="unreadable").inc()  # a result, and nobody answers for it
    return []


def _drop_value(record: Record) -> Record:
    """What is to wait for company need not keep its body meanwhile: thousands wait, of up to a MiB each."""
    return record._replace(value=None)


def _observe_bulk(bulk: BulkRequested, held: bool, record: Record) -> list[Observation]:
    mails = bulk.list_mails()
    content, named = mails[0].fingerprint_content(), record.header("ce_id")
    first = _see_request(mails[0], "", record)
    observed = []
    for mail in mails:
        seen = _see_alike(first, mail, mail.compute_digest(content))
        observed.append(_observe_request(mail, seen, held, record, named))
    return observed


def _see_request(email: EmailRequested, digest: str, record: Record) -> RequestSeen:
    return RequestSeen(  # by position: by name it takes twice as long
        digest,
        email.account,
        str(email.from_),
        _write(email.to),
        _write(email.cc),
        _write(email.bcc),
        tuple(email.recipients),
        email.subject,
        record.time,
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


def _see_alike(first: RequestSeen, email: EmailRequested, digest: str) -> RequestSeen:
    """Another mail of the bulk event that `first` comes from; such have one recipient each."""
    return RequestSeen(
        digest,
        first.account,
        first.sender,
        (str(email.to[0]),),
        (),
        (),
        (email.to[0].address,),
        first.subject,
        first.recorded_at,
        first.topic,
        first.partition,
        first.offset,
        email.metadata,
        first.api_key_id,
        first.tags,
        first.mailing_id,
        first.batch_id,
        str(email.retry_of) if email.retry_of else None,
        first.send_at,
        first.expires_at,
        first.test,
        first.requested_at,
    )


def _observe_request(
    email: EmailRequested, seen: RequestSeen, held: bool, record: Record, named: str | None
) -> Observation:
    assert email.id is not None
    at, digest = seen.recorded_at, seen.digest
    mail = Mail(email.id, email.account, at, at, requests=(seen,), held=held, released=not held)
    data: dict[str, Any] = {"digest": digest, "held": held}
    if email.send_at:
        data["send_at"] = format_time(email.send_at)
    # The same request published three times is one thing that happened.
    own = str(email.id)
    key = _TIMELINE.name(f"{own}\n{digest}\n{held}")
    if named == own:  # so our own publishers name it; anything else is looked at more closely
        data["ce_id"] = own
        line = Line(email.id, key, EventType.REQUESTED.value, email.account, at, record, data)
    else:
        line = draw_line(email.id, key, EventType.REQUESTED, email.account, record, at, data, named)
    return Observation(line, mail, waits=email.paced and not held)


def _write(boxes: Sequence[Mailbox]) -> tuple[str, ...]:
    return tuple([str(box) for box in boxes]) if boxes else ()


def _draw_only(
    email_id: UUID, event_id: UUID, kind: EventType, account: str, record: Record, data: dict[str, Any]
) -> Observation:
    return Observation(
        draw_line(email_id, event_id, kind, account, record, record.time, data, record.header("ce_id")), None
    )


def _observe_rescheduled(event: EmailRescheduled, record: Record) -> Observation:
    """A line only: anybody may publish where requests are published, and the scheduler alone knows the time."""
    data = {"send_at": format_time(event.send_at), "rescheduled_at": event.rescheduled_at.isoformat()}
    account = event.account[:ACCOUNT_LIMIT]
    return _draw_only(event.id, event.event_id(), EventType.RESCHEDULED, account, record, data)
