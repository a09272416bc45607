"""From a ledger entry to the events that tell it, the same ones whenever it is asked (P4). Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.sender.ledger import LedgerEntry, RecipientResult
from shared.events import Echo, EmailFailed, EmailSent, FailedRecipient, RecipientOutcome, Source
from shared.states import FINAL_STATES, FailureReason, RecipientState

Result = EmailSent | EmailFailed

_STATE_ORDER = {RecipientState.DEFERRED: 0, RecipientState.UNKNOWN: 1, RecipientState.FAILED: 2}


@dataclass(frozen=True, slots=True)
class Announcement:
    """The events of one mail in order. `completing` is to leave only after the others are acknowledged."""

    events: list[Result]
    completing: Result | None


def announce(entry: LedgerEntry, *, only_attempt: int | None = None) -> Announcement:
    """Derive the events of all attempts, or of one."""
    attempts = sorted({each.attempt for each in entry.results.values()})
    echo = Echo.model_validate({"account": entry.account, **entry.echo})
    events: list[Result] = []
    completing: Result | None = None
    for attempt in attempts:
        outstanding = _count_outstanding(entry, attempt)
        made = [] if only_attempt not in (None, attempt) else _events_of(entry, attempt, outstanding, echo)
        if made and outstanding == 0:
            completing = _complete(made.pop(), entry)
        events.extend(made)
    return Announcement(events, completing)


def _count_outstanding(entry: LedgerEntry, attempt: int) -> int:
    """Recipients without a final outcome once `attempt` was over."""
    final = sum(1 for each in entry.results.values() if each.state in FINAL_STATES and each.attempt <= attempt)
    return entry.recipient_count - final


def _events_of(entry: LedgerEntry, attempt: int, outstanding: int, echo: Echo) -> list[Result]:
    """email.sent first, then one email.failed per reason, deferrals before finals."""
    sent: list[RecipientResult] = []
    failed: dict[tuple[RecipientState, FailureReason], list[RecipientResult]] = {}
    for each in entry.results.values():
        if each.attempt != attempt:
            continue
        if each.state is RecipientState.SENT:
            sent.append(each)
        elif each.reason is not None:
            failed.setdefault((each.state, each.reason), []).append(each)
    events: list[Result] = [_sent_event(entry, attempt, sent, outstanding, echo)] if sent else []
    for (state, reason), results in sorted(failed.items(), key=lambda item: (_STATE_ORDER[item[0][0]], item[0][1])):
        events.append(_failed_event(entry, attempt, state, reason, results, outstanding, echo))
    return events


def _sent_event(
    entry: LedgerEntry, attempt: int, results: list[RecipientResult], outstanding: int, echo: Echo
) -> EmailSent:
    first = results[0]
    return EmailSent.model_construct(
        id=entry.id,
        attempt=attempt,
        recipients=[each.address for each in results],
        message_id=entry.message_id,
        relay=first.relay,
        response=first.text,
        sent_at=datetime.fromisoformat(first.at),
        outstanding=outstanding,
        digest=entry.digest,
        **_fields(echo),
    )


def _failed_event(
    entry: LedgerEntry,
    attempt: int,
    state: RecipientState,
    reason: FailureReason,
    results: list[RecipientResult],
    outstanding: int,
    echo: Echo,
) -> EmailFailed:
    return EmailFailed.model_construct(
        id=entry.id,
        attempt=attempt,
        recipients=[
            FailedRecipient.model_construct(
                address=each.address, smtp_code=each.code, enhanced_code=each.enhanced, diagnostic=each.text
            )
            for each in results
        ],
        reason=reason,
        final=state is RecipientState.FAILED,
        retry_at=entry.retry_at if state is RecipientState.DEFERRED else None,
        failed_at=datetime.fromisoformat(results[0].at),
        outstanding=outstanding,
        digest=entry.digest,
        **_fields(echo),
    )


def _complete(event: Result, entry: LedgerEntry) -> Result:
    outcomes = [
        RecipientOutcome.model_construct(address=each.address, state=each.state, attempt=each.attempt)
        for each in entry.results.values()
    ]
    return event.model_copy(update={"complete": True, "outcomes": outcomes})


def _fields(echo: Echo) -> dict[str, Any]:
    return dict(echo.__dict__)


def refuse(errors: list[dict[str, str]], event_id: UUID | None, source: Source) -> EmailFailed:
    """The answer to a record nobody can read (R4)."""
    return EmailFailed(
        id=event_id,
        reason=FailureReason.INVALID_REQUEST,
        final=True,
        complete=event_id is not None,
        source=source,
        errors=errors,
    )
