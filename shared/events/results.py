"""What the world learns of a mail: `email.sent`, `email.failed`, and of one that waits, `email.rescheduled`."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from pydantic import Field

from shared.events.identity import derive_event_id
from shared.events.requested import DEFAULT_ACCOUNT, CallbackSpec
from shared.events.wire import Coordinates, Count, EventType, Instant, WireModel
from shared.states import FailureReason, RecipientState


class Echo(WireModel):
    """What a result gives back of the request, so that a consumer needs no look-up."""

    account: str = DEFAULT_ACCOUNT
    callback: str | CallbackSpec | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    tags: list[str] = Field(default_factory=list)
    mailing_id: str | None = None
    batch_id: str | None = None
    test: bool = Field(default=False, description="simulated: nothing was transmitted")
    paced: bool = Field(default=False, description="bulk mail that the scheduler let go")


class RecipientOutcome(WireModel):
    """Where one recipient stands when the mail is complete."""

    address: str
    state: RecipientState
    attempt: Count


class FailedRecipient(WireModel):
    """One recipient of a failure, with the relay's own words in `diagnostic`."""

    address: str
    smtp_code: Count | None = None
    enhanced_code: str | None = None
    diagnostic: str = ""


class Source(WireModel):
    """Coordinates of a record that could not be read."""

    topic: str
    partition: int
    offset: int


class EmailSent(Echo):
    """The relay accepted the mail for `recipients`. It says nothing about delivery."""

    id: UUID
    attempt: Count
    recipients: list[str]
    message_id: str
    relay: str
    response: str
    sent_at: Instant
    outstanding: Count
    complete: bool = False
    outcomes: list[RecipientOutcome] | None = None
    digest: str = ""

    def event_id(self) -> UUID:
        """`ce_id`: equal whenever the same result is published again."""
        return derive_event_id(self.id, EventType.SENT, attempt=self.attempt, final=True, recipients=self.recipients)


class EmailFailed(Echo):
    """`recipients` did not get the mail: for now (`final` false, perhaps `retry_at`) or for good."""

    id: UUID | None = None
    attempt: Count = 0
    recipients: list[FailedRecipient] = Field(default_factory=list)
    reason: FailureReason
    final: bool
    retry_at: Instant | None = None
    failed_at: Instant | None = None
    outstanding: Count = 0
    complete: bool = False
    outcomes: list[RecipientOutcome] | None = None
    digest: str = ""
    source: Source | None = None
    errors: list[dict[str, str]] | None = Field(default=None, description="what to mend, with JSON pointers")

    def event_id(self, record: Coordinates | None = None) -> UUID:
        """`ce_id`; an event without email id is identified by the coordinates of its record."""
        subject = self.id or record
        if subject is None:
            raise ValueError("a failure without id needs the coordinates of its record")
        return derive_event_id(
            subject,
            EventType.FAILED,
            attempt=self.attempt,
            reason=self.reason,
            final=self.final,
            recipients=addresses_of(self.recipients),
        )


class EmailRescheduled(WireModel):
    """A mail that waits has got another `send_at`. It stands where the mail's request stands, behind it."""

    id: UUID
    send_at: Instant
    rescheduled_at: Instant
    account: str = DEFAULT_ACCOUNT

    def event_id(self) -> UUID:
        """`ce_id`: one for each change, equal whenever that is told again."""
        return derive_event_id(self.id, EventType.RESCHEDULED, reason=self.rescheduled_at.isoformat())


def addresses_of(recipients: Iterable[FailedRecipient]) -> list[str]:
    """Addresses in the order given."""
    return [each.address for each in recipients]
