"""From a ledger entry to the events that tell it, the same ones whenever it is asked (P4). Pure.

The data is built as plain values: validating what we have just made ourselves cost a third of the CPU of a mail
(docs/performance.md). `tests/unit` holds every shape made here against the models of shared/events.
"""

from typing import Any, NamedTuple
from uuid import UUID

import orjson

from services.sender.ledger import LedgerEntry, RecipientResult
from shared.events import EmailFailed, EventType, Source, format_time, name_event, name_sent_event
from shared.states import FINAL_STATES, FailureReason, RecipientState

_STATE_ORDER = {RecipientState.DEFERRED: 0, RecipientState.UNKNOWN: 1, RecipientState.FAILED: 2}


class Told(NamedTuple):
    """One result event: its type, identity and time, and its data as it goes on the topic."""

    type: EventType
    event_id: str  # a UUID
    at: str  # RFC 3339
    data: dict[str, Any]

    def to_json(self) -> bytes:
        """The record's value."""
        return orjson.dumps(self.data)


class Written(NamedTuple):
    """A result event as it goes on the topic; `value` is the record's."""

    type: EventType
    email_id: bytes
    event_id: str
    at: str
    value: bytes


class Announcement(NamedTuple):
    """The events of one mail in order. `completing` is to leave only after the others are acknowledged."""

    events: list[Told]
    completing: Told | None


def announce(entry: LedgerEntry, *, only_attempt: int | None = None) -> Announcement:
    """Derive the events of all attempts, or of one."""
    if entry.recipient_count == 1 and len(entry.results) == 1:
        return _announce_only(entry, next(iter(entry.results.values())), only_attempt)
    return announce_all(entry, only_attempt)


class Writer:
    """Writes what nearly every mail ends with: sent, to its only recipient. For the mails of one group.

    What `announce` gives for it, from a part that the mails of a bulk event share: that takes half the time.
    """

    def __init__(self) -> None:
        self._shared: dict[tuple[object, ...], tuple[object, bytes]] = {}

    def write(self, entry: LedgerEntry, only_attempt: int | None) -> Written | None:
        """The completing event; None where there is another, or more of them."""
        if entry.recipient_count != 1 or len(entry.results) != 1:
            return None
        (result,) = entry.results.values()
        if result.state is not RecipientState.SENT or only_attempt not in (None, result.attempt):
            return None
        email_id, address = entry.id_text.encode(), orjson.dumps(result.address)
        pieces = (
            b'{"id":"',
            email_id,
            b'",',
            self._write_shared(entry, result),
            b',"digest":"',
            entry.digest.encode(),
            b'","message_id":',
            orjson.dumps(entry.message_id),
            b',"response":',
            orjson.dumps(result.text),
            b',"recipients":[',
            address,
            b'],"outcomes":[{"address":',
            address,
            b',"state":"sent","attempt":%d}]}' % result.attempt,
        )
        event_id = name_sent_event(entry.id_text, result.attempt, result.address)
        return Written(EventType.SENT, email_id, event_id, result.at, b"".join(pieces))

    def _write_shared(self, entry: LedgerEntry, result: RecipientResult) -> bytes:
        echo = entry.echo
        key = id(echo), entry.account, result.attempt, result.relay, result.at
        known = self._shared.get(key)
        if known is None:
            shared = {"account": entry.account, "metadata": {}, "tags": [], **echo}
            shared |= {"attempt": result.attempt, "outstanding": 0, "complete": True}
            shared |= {"relay": result.relay, "sent_at": result.at}
            known = self._shared[key] = echo, orjson.dumps(shared)[1:-1]  # the echo is kept: its number stays its own
        return known[1]


def announce_all(entry: LedgerEntry, only_attempt: int | None) -> Announcement:
    """The same for any number of recipients."""
    events: list[Told] = []
    completing: Told | None = None
    for attempt in sorted({each.attempt for each in entry.results.values()}):
        outstanding = _count_outstanding(entry, attempt)
        made = [] if only_attempt not in (None, attempt) else _events_of(entry, attempt, outstanding)
        if made and outstanding == 0:
            completing = _complete(made.pop(), entry)
        events.extend(made)
    return Announcement(events, completing)


def _announce_only(entry: LedgerEntry, result: RecipientResult, only_attempt: int | None) -> Announcement:
    """The short way for a mail with one recipient; the long one comes to the same."""
    attempt, state = result.attempt, result.state
    if only_attempt not in (None, attempt):
        return Announcement([], None)
    if state is RecipientState.SENT:  # nearly every mail: Writer's
        return announce_all(entry, only_attempt)
    if result.reason is None:
        return Announcement([], None)
    told = _tell_failed(entry, attempt, state, result.reason, [result], int(state not in FINAL_STATES))
    return Announcement([], _complete(told, entry)) if state in FINAL_STATES else Announcement([told], None)


def _complete(told: Told, entry: LedgerEntry) -> Told:
    """Let the event say that nothing more follows, and what became of each recipient."""
    told.data["complete"] = True
    told.data["outcomes"] = [
        {"address": each.address, "state": each.state, "attempt": each.attempt} for each in entry.results.values()
    ]
    return told


def _count_outstanding(entry: LedgerEntry, attempt: int) -> int:
    """Recipients without a final outcome once `attempt` was over."""
    final = sum(1 for each in entry.results.values() if each.state in FINAL_STATES and each.attempt <= attempt)
    return entry.recipient_count - final


def _events_of(entry: LedgerEntry, attempt: int, outstanding: int) -> list[Told]:
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
    events = [_tell_sent(entry, attempt, sent, outstanding)] if sent else []
    for (state, reason), results in sorted(failed.items(), key=lambda item: (_STATE_ORDER[item[0][0]], item[0][1])):
        events.append(_tell_failed(entry, attempt, state, reason, results, outstanding))
    return events


def _tell_sent(entry: LedgerEntry, attempt: int, results: list[RecipientResult], outstanding: int) -> Told:
    first = results[0]
    recipients = [each.address for each in results]
    data = _begin(entry, attempt, outstanding)
    data["recipients"] = recipients
    data["message_id"] = entry.message_id
    data["relay"] = first.relay
    data["response"] = first.text
    data["sent_at"] = first.at
    event_id = name_event(data["id"], EventType.SENT, attempt, "", final=True, recipients=recipients)
    return Told(EventType.SENT, event_id, first.at, data)


def _tell_failed(
    entry: LedgerEntry,
    attempt: int,
    state: RecipientState,
    reason: FailureReason,
    results: list[RecipientResult],
    outstanding: int,
) -> Told:
    final = state is RecipientState.FAILED
    data = _begin(entry, attempt, outstanding)
    data["recipients"] = [_describe(each) for each in results]
    data["reason"] = reason
    data["final"] = final
    data["failed_at"] = results[0].at
    if state is RecipientState.DEFERRED and entry.retry_at:
        data["retry_at"] = format_time(entry.retry_at)
    recipients = [each.address for each in results]
    event_id = name_event(data["id"], EventType.FAILED, attempt, reason, final=final, recipients=recipients)
    return Told(EventType.FAILED, event_id, results[0].at, data)


def _begin(entry: LedgerEntry, attempt: int, outstanding: int) -> dict[str, Any]:
    return {
        "id": entry.id_text,
        "account": entry.account,
        "metadata": {},
        "tags": [],
        **entry.echo,
        "attempt": attempt,
        "outstanding": outstanding,
        "complete": False,
        "digest": entry.digest,
    }


def _describe(result: RecipientResult) -> dict[str, Any]:
    described: dict[str, Any] = {"address": result.address, "diagnostic": result.text}
    if result.code:
        described["smtp_code"] = result.code
    if result.enhanced:
        described["enhanced_code"] = result.enhanced
    return described


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
