"""A mail that waits, or a bulk event: what is stored of it, and when it is due. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

import orjson

from shared.events import BulkRequested, EmailRequested, EventType, UnreadableEvent


class DelayedState(StrEnum):
    """`pending → releasing → released`, or `pending → cancelled` (R6)."""

    PENDING = "pending"
    RELEASING = "releasing"
    RELEASED = "released"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class DelayedMail:
    """One mail or bulk event to keep. `event` is what will be published, without `send_at` and `priority`.

    `expires_at` is the publisher's own, where there is one; `bulk_id` and `mail_count` are a bulk event's.
    """

    id: UUID
    account: str
    due_at: datetime
    event: bytes
    traceparent: str | None
    expires_at: datetime | None = None
    bulk_id: UUID | None = None
    mail_count: int | None = None


@dataclass(frozen=True, slots=True)
class Expiry:
    """How long after its release a mail may be tried: by default, and at most."""

    default: timedelta
    limit: timedelta

    def decide(self, wanted: datetime | None, released_at: datetime) -> datetime:
        """The absolute `expires_at` of a mail released at `released_at`."""
        try:
            return min(wanted or released_at + self.default, released_at + self.limit)
        except OverflowError:  # somebody's "never": the last day of the year 9999
            return datetime.max.replace(tzinfo=UTC)


def delay(
    event: EmailRequested | BulkRequested,
    received_at: datetime,
    traceparent: str | None,
    expiry: Expiry,
    event_limit: int,
) -> DelayedMail:
    """What to store of an event that carries `send_at` or `priority: bulk` (R1).

    `received_at` is the record's time; bulk mail without `send_at` is due then. Raises UnreadableEvent where the
    event, completed, would be larger than the sender reads.
    """
    due_at = event.send_at or received_at
    leaves_at = max(due_at, received_at)  # a time that is over means at once, not expired
    stored = event.model_copy(
        update={"send_at": None, "priority": "normal", "expires_at": expiry.decide(event.expires_at, leaves_at)}
    ).to_json()
    if len(stored) > event_limit:
        detail = f"with id and expires_at written in, the event has {len(stored)} bytes, the limit is {event_limit}"
        raise UnreadableEvent([{"detail": detail, "pointer": ""}])
    bulk = (event.bulk_id, len(event.mails)) if isinstance(event, BulkRequested) else (None, None)
    return DelayedMail(_identify(event), event.account, due_at, stored, traceparent, event.expires_at, *bulk)


def move_expiry(event: bytes, expires_at: datetime) -> bytes:
    """A stored event that leaves at another time than it was stored for: with another `expires_at`.

    In whole seconds: so it is never longer than what was measured against the limit.
    """
    data = orjson.loads(event)
    data["expires_at"] = expires_at.replace(microsecond=0)
    return orjson.dumps(data, option=orjson.OPT_UTC_Z)


def list_mails(event: bytes) -> list[EmailRequested]:
    """The mails that a stored event stands for: one, or those of a bulk event."""
    if address_release(event)[0] is EventType.BULK_REQUESTED:
        return BulkRequested.model_validate_json(event).list_mails()
    return [EmailRequested.model_validate_json(event)]


def _identify(event: EmailRequested | BulkRequested) -> UUID:
    """A bulk event's row has an id that is nobody's: who cancels a mail does not mean an event of the same id."""
    if isinstance(event, BulkRequested):
        assert event.bulk_id is not None, "read_bulk gives every event its id"
        return uuid5(event.bulk_id, "bulk event")
    assert event.id is not None, "read_email gives every mail its id"
    return event.id


def address_release(event: bytes) -> tuple[EventType, str]:
    """Under which type and key (email id, bulk id) a stored event is published."""
    data = orjson.loads(event)
    return (EventType.BULK_REQUESTED, data["bulk_id"]) if "mails" in data else (EventType.REQUESTED, data["id"])


def merge(mails: Iterable[DelayedMail]) -> list[DelayedMail]:
    """Each id once, the first wins (R5), in the order of ids, so that two processes never wait for each other."""
    first: dict[UUID, DelayedMail] = {}
    for mail in mails:
        first.setdefault(mail.id, mail)
    return [first[key] for key in sorted(first)]
