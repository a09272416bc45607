"""A mail that waits: what is stored of it, and when it is due. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from shared.events import EmailRequested, UnreadableEvent


class DelayedState(StrEnum):
    """`pending → releasing → released`, or `pending → cancelled` (R6)."""

    PENDING = "pending"
    RELEASING = "releasing"
    RELEASED = "released"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class DelayedMail:
    """One mail to keep. `event` is the value that will be published, without `send_at` and `priority`."""

    id: UUID
    account: str
    due_at: datetime
    event: bytes
    traceparent: str | None


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
    event: EmailRequested, received_at: datetime, traceparent: str | None, expiry: Expiry, event_limit: int
) -> DelayedMail:
    """What to store of a mail that carries `send_at` or `priority: bulk` (R1).

    `received_at` is the record's time; bulk mail without `send_at` is due then. Raises UnreadableEvent where the
    event, completed, would be larger than the sender reads.
    """
    assert event.id is not None, "read_email gives every mail its id"
    due_at = event.send_at or received_at
    stored = event.model_copy(
        update={"send_at": None, "priority": "normal", "expires_at": expiry.decide(event.expires_at, due_at)}
    ).to_json()
    if len(stored) > event_limit:
        detail = f"with id and expires_at written in, the event has {len(stored)} bytes, the limit is {event_limit}"
        raise UnreadableEvent([{"detail": detail, "pointer": ""}])
    return DelayedMail(event.id, event.account, due_at, stored, traceparent)


def merge(mails: Iterable[DelayedMail]) -> list[DelayedMail]:
    """Each id once, the first wins (R5), in the order of ids, so that two processes never wait for each other."""
    first: dict[UUID, DelayedMail] = {}
    for mail in mails:
        first.setdefault(mail.id, mail)
    return [first[key] for key in sorted(first)]
