"""What the API answers about how mailings stand and who got them: the models of its JSON."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from services.scheduler.mailings.mailing import MailingState
from services.scheduler.mailings.standing.outcome_store import MailingRecipient
from services.scheduler.mailings.standing.standing import MailingStanding
from services.scheduler.mailings.states import MessageState


class RecipientView(BaseModel):
    """A recipient of a mailing, and how his mail stands."""

    recipient: UUID = Field(description="his id, also as a contact")
    address: str | None = Field(
        description="null once the contact was erased or the list deleted", examples=["ann@example.org"]
    )
    name: str | None = Field(examples=["Ann"])
    state: MessageState
    in_flight: bool = Field(description="the senders have the mail")
    final: bool = Field(description="nothing more comes of it by itself")
    reason: str | None = Field(description="why it failed, or was skipped", examples=["rejected"])
    detail: str | None = Field(description="the relay's words, or what was wrong with the template")
    round: int = Field(description="how many mails to him failed before this one", examples=[0])
    email_id: UUID = Field(description="`GET /v1/emails/{id}` has all that is known of the mail")
    handed_at: datetime | None = Field(description="when it left for the senders")
    ended_at: datetime | None = Field(description="when it had its end")


class RecipientPage(BaseModel):
    """Recipients, in an order that stays as it is."""

    data: list[RecipientView]
    next: str | None = Field(default=None, description="there are more: `after` of the next request")


class MessageCounts(BaseModel):
    """Recipients by state: each is in one of the first four, which make `recipients` together."""

    pending: int = Field(examples=[60_000])
    success: int = Field(description="a relay has taken the mail", examples=[39_000])
    fail: int = Field(description="an attempt failed; more may follow", examples=[980])
    skipped: int = Field(description="had unsubscribed before their mail left, or were erased", examples=[20])
    in_flight: int = Field(description="of all, whose mail the senders have", examples=[1000])
    final: int = Field(description="of all, of whom nothing more comes by itself", examples=[39_990])
    recipients: int = Field(examples=[100_000])
    unsubscribed: int = Field(description="have used the link in its mail", examples=[35])


class MailingPace(BaseModel):
    """How far it is, and how fast."""

    percent: float | None = Field(
        default=None,
        description="of the recipients of whom nothing more comes by itself; 100 only at its end, and left out until "
        "all have been taken in",
        examples=[39.9],
    )
    rate: float | None = Field(default=None, description="mails a second while it runs", examples=[812.5])
    estimated_end: datetime | None = Field(default=None, description="while it runs, if it goes on as it does")


class MailingProgress(BaseModel):
    """What changes of a mailing while it runs, at most about a second old."""

    id: UUID
    name: str
    state: MailingState
    counts: MessageCounts
    progress: MailingPace
    created_at: datetime
    started_at: datetime | None = None
    frozen_at: datetime | None = None
    finished_at: datetime | None = None
    test: bool | None = None


class MailingStats(BaseModel):
    """A mailing in figures."""

    id: UUID
    name: str
    state: MailingState
    counts: MessageCounts
    sent: int = Field(description="mails a relay has taken", examples=[39_000])
    failed: dict[str, int] = Field(
        description="by reason, most frequent first; some may be tried again", examples=[{"rejected": 900}]
    )
    rate: float | None = Field(description="mails sent a second, on average since the start", examples=[812.5])
    duration_s: float | None = Field(description="from the start to the end, or until now", examples=[48.0])
    started_at: datetime | None
    finished_at: datetime | None


class TotalStats(BaseModel):
    """All mailings of the account together."""

    mailings: int
    recipients: int
    sent: int
    failed: dict[str, int] = Field(description="by reason, most frequent first", examples=[{"rejected": 900}])
    skipped: int


class StatsSummary(BaseModel):
    """Mailings in figures, newest first, and all of them together."""

    total: TotalStats
    data: list[MailingStats]
    next: str | None = Field(default=None, description="there are more: `after` of the next request")


def show_recipient(found: MailingRecipient) -> RecipientView:
    """A recipient as he is told."""
    standing = found.standing
    return RecipientView(
        recipient=found.recipient,
        address=found.address,
        name=found.name,
        state=standing.state,
        in_flight=standing.in_flight,
        final=standing.final,
        reason=standing.reason,
        detail=found.detail,
        round=found.round,
        email_id=found.email_id,
        handed_at=found.handed_at,
        ended_at=found.ended_at,
    )


def show_counts(standing: MailingStanding) -> MessageCounts:
    """A mailing's counts as they are told."""
    by_state = {state.value: standing.count(state) for state in MessageState}
    return MessageCounts(
        **by_state,
        in_flight=standing.in_flight,
        final=standing.ended,
        recipients=standing.total,
        unsubscribed=standing.unsubscribed,
    )


def show_pace(standing: MailingStanding) -> MailingPace:
    """How far a mailing is, as it is told."""
    rate = standing.pace.rate if standing.state is MailingState.RUNNING else None
    return MailingPace(
        percent=standing.percent,
        rate=round(rate, 1) if rate is not None else None,
        estimated_end=standing.estimated_end,
    )


def show_progress(standing: MailingStanding) -> MailingProgress:
    """What is told of a mailing as it runs; names are those of `GET /v1/mailings/{id}`."""
    return MailingProgress(
        id=standing.id,
        name=standing.name,
        state=standing.state,
        counts=show_counts(standing),
        progress=show_pace(standing),
        created_at=standing.created_at,
        started_at=standing.started_at,
        frozen_at=standing.frozen_at,
        finished_at=standing.finished_at,
        test=standing.test or None,
    )


def show_stats(standing: MailingStanding, failed: Mapping[str, int]) -> MailingStats:
    """A mailing in figures."""
    return MailingStats(
        id=standing.id,
        name=standing.name,
        state=standing.state,
        counts=show_counts(standing),
        sent=standing.count(MessageState.SUCCESS),
        failed=dict(failed),
        rate=round(standing.rate, 1) if standing.rate is not None else None,
        duration_s=round(standing.duration_s, 1) if standing.duration_s is not None else None,
        started_at=standing.started_at,
        finished_at=standing.finished_at,
    )
