"""Reading a result: what it says of a mail's recipients, and its line in the timeline. Pure."""

from datetime import datetime
from typing import Any
from uuid import UUID

from services.gateway.lines import Line, Observation, draw_line
from services.gateway.plain_results import PlainSent
from services.gateway.projection import Mail, Outcome
from shared.batching import Record
from shared.events import EmailFailed, EmailSent, EventType, format_time
from shared.states import FailureReason, RecipientState

# Requests keep to it. A result may say anything, but no index holds any length, and a batch must not fail for one.
ACCOUNT_LIMIT = 64
_SENT = EventType.SENT.value


def observe_plain(event: PlainSent, record: Record) -> Observation:
    """What nearly every mail ends with. By position, as everything that is made for every record."""
    at, code, account = record.time, _read_code(event.response), event.account[:ACCOUNT_LIMIT]
    address, attempt, message_id, relay, response = (
        event.address,
        event.attempt,
        event.message_id,
        event.relay,
        event.response,
    )
    outcome = Outcome(address, RecipientState.SENT, attempt, at, code, None, response, None, relay)
    mail = Mail(
        event.id, account, at, at, (), (outcome,), event.digest or None, message_id, attempt, False, True, False, True
    )
    data: dict[str, Any] = {
        "attempt": attempt,
        "recipients": [{"address": address}],
        "relay": relay,
        "response": response,
        "message_id": message_id,
        "complete": True,
    }
    named = record.header("ce_id")
    if named and named != event.name:
        line = draw_line(event.id, event.event_id, EventType.SENT, account, record, at, data, named)
    else:
        line = Line(event.id, event.event_id, _SENT, account, at, record, data)
    return Observation(line, mail, waits=_has_company(event, mail))


def observe_sent(event: EmailSent, record: Record) -> Observation:
    """Any `email.sent`."""
    at = record.time
    code = _read_code(event.response)
    told = [
        Outcome(address, RecipientState.SENT, event.attempt, at, code, None, event.response, None, event.relay)
        for address in event.recipients
    ]
    account = event.account[:ACCOUNT_LIMIT]
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
    line = draw_line(event.id, event.event_id(), EventType.SENT, account, record, at, data, record.header("ce_id"))
    return Observation(line, mail, waits=_has_company(event, mail))


def observe_failed(event: EmailFailed, email_id: UUID, record: Record) -> Observation:
    """Any `email.failed` of a mail."""
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
    account = event.account[:ACCOUNT_LIMIT]
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
    line = draw_line(email_id, event.event_id(), EventType.FAILED, account, record, at, data, record.header("ce_id"))
    return Observation(line, mail, waits=_has_company(event, mail))


def _has_company(event: PlainSent | EmailSent | EmailFailed, mail: Mail) -> bool:
    """Whether the request may not be written yet: it waits for this. That of a later attempt no longer does."""
    return event.paced and event.attempt <= 1 and mail.tells_the_end


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


def _read_code(response: str) -> int | None:
    return int(response[:3]) if response[:3].isascii() and response[:3].isdigit() else None
