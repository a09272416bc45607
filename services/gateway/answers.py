"""What the API answers: the models of its JSON."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.apidocs import ProblemDocument
from shared.states import MailStatus, RecipientState

_ID = "01a2b3c4-d5e6-7f80-9a1b-2c3d4e5f6071"
_LINE = "250 2.0.0 Ok: queued as 4dC1bx0Y2zz9s"


class Accepted(BaseModel):
    """Kafka holds the mail; it will reach a final outcome that `Location` shows."""

    id: UUID = Field(examples=[_ID])
    status: str = Field(examples=["queued"])


class BatchMailRefused(BaseModel):
    """A mail of a batch that Kafka does not hold, or may not hold."""

    problem: ProblemDocument = Field(
        description="as `POST /v1/emails` would have answered; pointers are into this mail. `outcome: unknown`: it may "
        "still be sent, under the `id` beside it"
    )


class BatchAccepted(BaseModel):
    """What became of the mails of a batch."""

    batch_id: UUID = Field(description="all of them have it", examples=[_ID])
    accepted: int = Field(description="how many Kafka holds; each will reach a final outcome", examples=[1])
    refused: int = Field(description="how many it does not hold, for the reasons in `results`", examples=[0])
    unknown: int = Field(description="how many it may hold", examples=[0])
    results: list[Accepted | BatchMailRefused] = Field(description="for each mail, in order")


class CancellationAccepted(BaseModel):
    """Kafka holds the wish; `Location` shows what came of it. It may have come too late."""

    id: UUID = Field(examples=[_ID])
    status: str = Field(examples=["cancellation_requested"])


class RetryAccepted(BaseModel):
    """Kafka holds the mail anew; `Location` shows what becomes of it."""

    id: UUID = Field(description="the retry's own id", examples=[_ID])
    status: str = Field(examples=["queued"])
    retry_of: UUID
    recipients: int = Field(description="how many recipients it is for")


class RetryDone(BaseModel):
    """A mail that is tried again."""

    id: UUID = Field(description="the retry's own id")
    retry_of: UUID
    recipients: int = Field(description="how many recipients it is for")


class RetryLeftOut(BaseModel):
    """A mail that is not tried again, and why."""

    id: UUID
    why: str = Field(examples=["aged-out"])
    detail: str
    retry_id: UUID | None = Field(default=None, description="the retry that stands in the way, or may be on its way")


class RetriesAccepted(BaseModel):
    """What became of the mails a filter meant."""

    count: int = Field(description="mails that are tried again")
    retried: list[RetryDone]
    left_out: list[RetryLeftOut]
    next: str | None = Field(default=None, description="there may be more: `after` of the next request")


class Recipient(BaseModel):
    """Where one recipient stands. `sent` says that the relay accepted the mail, not that anybody has read it."""

    address: str = Field(examples=["ann@example.com"])
    state: RecipientState
    attempt: int | None = Field(default=None, description="the attempt that led here")
    smtp_code: int | None = Field(default=None, examples=[250])
    response: str | None = Field(default=None, description="the relay's own words", examples=[_LINE])
    reason: str | None = Field(default=None, description="why it failed, or waits")
    at: datetime | None = None


class EmailLinks(BaseModel):
    """Where to read on."""

    self: str = Field(examples=[f"/v1/emails/{_ID}"])
    events: str = Field(examples=[f"/v1/emails/{_ID}/events"])
    deliveries: str = Field(examples=[f"/v1/webhooks/deliveries?email_id={_ID}"])


class Email(BaseModel):
    """A mail and what has become of it; absent members are not known, or were not given."""

    model_config = ConfigDict(validate_by_name=True)

    id: UUID = Field(examples=[_ID])
    status: MailStatus
    complete: bool = Field(description="every recipient has a final outcome")
    from_: str | None = Field(default=None, alias="from")
    to: list[str] | None = None
    cc: list[str] | None = None
    bcc: list[str] | None = None
    subject: str | None = None
    recipients: list[Recipient]
    attempts: int = Field(description="attempts at sending so far")
    message_id: str | None = Field(default=None, description="as the relay has it")
    tags: list[str]
    metadata: dict[str, Any]
    mailing_id: str | None = None
    batch_id: str | None = None
    retry_of: str | None = Field(default=None, description="the mail that this one tries again")
    send_at: datetime | None = Field(default=None, description="when it leaves, or left, after every change")
    expires_at: datetime | None = None
    created_at: datetime = Field(description="when Kafka held it")
    updated_at: datetime = Field(description="when something last became known of it")
    links: EmailLinks


class EmailItem(BaseModel):
    """A mail in a list; `links.self` leads to all that is known of it."""

    model_config = ConfigDict(validate_by_name=True)

    id: UUID = Field(examples=[_ID])
    status: MailStatus
    from_: str | None = Field(default=None, alias="from")
    to: list[str] | None = Field(default=None, description="the first three", examples=[["Ann <ann@example.com>"]])
    recipient_count: int = Field(description="of to, cc and bcc together")
    subject: str | None = None
    tags: list[str]
    mailing_id: str | None = None
    batch_id: str | None = None
    send_at: datetime | None = Field(
        default=None, description="as it was requested; a later change: `GET /v1/emails/{id}`"
    )
    created_at: datetime = Field(description="when Kafka held it")
    updated_at: datetime = Field(description="when something last became known of it")
    links: EmailLinks


class EmailPage(BaseModel):
    """Mails, newest first."""

    data: list[EmailItem]
    next: str | None = Field(default=None, description="there are more: `after` of the next request")


class TimelineRecipient(BaseModel):
    """A recipient in one event of the timeline, with the relay's words where it refused."""

    address: str
    smtp_code: int | None = None
    enhanced_code: str | None = None
    diagnostic: str | None = None


class TimelineEvent(BaseModel):
    """One thing that happened."""

    id: UUID = Field(description="the event's `ce_id`: the same event is the same id everywhere")
    type: str = Field(examples=["email.sent"])
    time: datetime = Field(description="the broker's time of the record")
    attempt: int | None = None
    reason: str | None = Field(default=None, examples=["deferred"])
    final: bool | None = Field(default=None, description="false: it will be tried again")
    retry_at: datetime | None = None
    recipients: list[TimelineRecipient] | None = None
    relay: str | None = None
    response: str | None = Field(default=None, description="the relay's own words", examples=[_LINE])
    message_id: str | None = None
    complete: bool | None = Field(default=None, description="true on the event that completes the mail")
    send_at: datetime | None = Field(default=None, description="of a request, and of `email.rescheduled`")
    detail: str | None = Field(default=None, description="what a reader may need to know about it")
    errors: list[dict[str, str]] | None = None


class Timeline(BaseModel):
    """Everything that happened to a mail, in order."""

    id: UUID = Field(examples=[_ID])
    status: MailStatus
    events: list[TimelineEvent]


class StatsCounts(BaseModel):
    """How many mails have which status now; `accepted` are all of them."""

    accepted: int
    queued: int
    scheduled: int
    deferred: int
    sent: int
    partially_sent: int
    failed: int
    cancelled: int
    expired: int
    unknown: int


class StatsSpan(BaseModel):
    """A minute, an hour or a day."""

    start: datetime = Field(description="its beginning")


class StatsPoint(StatsCounts, StatsSpan):
    """The mails of one span."""


class Stats(BaseModel):
    """Counts of mails by the span in which Kafka came to hold them."""

    model_config = ConfigDict(validate_by_name=True)

    from_: datetime = Field(alias="from", description="the beginning of the first span")
    to: datetime = Field(description="the end of the last span")
    resolution: str = Field(examples=["hour"])
    tag: str | None = None
    total: StatsCounts
    data: list[StatsPoint] = Field(description="every span, the earliest first")
