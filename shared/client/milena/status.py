"""What the API tells of a mail."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


def read_time(value: Any) -> datetime | None:
    """A time as the API writes it."""
    return datetime.fromisoformat(value) if isinstance(value, str) else None


@dataclass(frozen=True)
class RecipientStatus:
    """Where one recipient stands. `sent` says that the relay accepted the mail, not that anybody has read it."""

    address: str
    state: str
    response: str | None = None
    reason: str | None = None
    at: datetime | None = None

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> "RecipientStatus":
        """From the API's JSON."""
        return cls(data["address"], data["state"], data.get("response"), data.get("reason"), read_time(data.get("at")))


@dataclass(frozen=True)
class EmailStatus:
    """Where a mail stands.

    `status`: queued, scheduled, deferred, sent, partially_sent, failed, cancelled, expired, unknown. `data` is all that
    the API has told.
    """

    id: str
    status: str
    complete: bool
    recipients: tuple[RecipientStatus, ...] = ()
    attempts: int = 0
    data: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> "EmailStatus":
        """From the API's JSON."""
        recipients = tuple(RecipientStatus.read(each) for each in data.get("recipients", ()))
        return cls(data["id"], data["status"], bool(data.get("complete")), recipients, data.get("attempts", 0), data)

    @property
    def is_over(self) -> bool:
        """Nothing more happens by itself: complete, or `unknown`, which waits for an operator."""
        return self.complete or self.status == "unknown"


@dataclass(frozen=True)
class ScheduledEmail:
    """A mail that waits for its time, or waited.

    `state`: pending, releasing, released, cancelled. `data` is all that the API has told.
    """

    id: str
    state: str
    send_at: datetime
    data: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> "ScheduledEmail":
        """From the API's JSON."""
        return cls(data["id"], data["state"], datetime.fromisoformat(data["send_at"]), data)


@dataclass(frozen=True)
class Event:
    """Something that happened to a mail. `type`: email.sent, email.failed …; `data` is the event.

    The same event has the same `id` everywhere. In a stream `position` is where to go on behind it, and two more types
    occur: `gap` (events are missing, they lay too far back), `dropped` (this reader was too slow).
    """

    id: str
    type: str
    time: datetime | None
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    position: str | None = field(default=None, repr=False, compare=False)

    @property
    def email_id(self) -> str | None:
        """Whose event it is."""
        found = self.data.get("email_id") or self.data.get("id")
        return None if found is None else str(found)

    @classmethod
    def read_line(cls, email_id: str, data: Mapping[str, Any]) -> "Event":
        """From one line of a mail's timeline."""
        return cls(data["id"], data["type"], read_time(data.get("time")), {**data, "email_id": email_id})
