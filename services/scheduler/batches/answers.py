"""What the API answers about batches: the models of its JSON."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from services.scheduler.batches.progress import Batch, BatchState
from services.scheduler.pacing.states import BulkState
from shared.apidocs import ProblemDocument

_ID = "01a2b3c4-d5e6-7f80-9a1b-2c3d4e5f6071"


class ItemState(StrEnum):
    """Where an item stands."""

    INVALID = "invalid"
    PENDING = "pending"
    HANDED_OUT = "handed_out"
    DEFERRED = "deferred"
    UNKNOWN = "unknown"
    SENT = "sent"
    PARTIALLY_SENT = "partially_sent"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


_KEPT = {ItemState.HANDED_OUT: BulkState.QUEUED}


def to_kept_state(state: ItemState) -> BulkState | None:
    """The state as paced bulk knows it; None for what is no mail."""
    return None if state is ItemState.INVALID else _KEPT.get(state) or BulkState(state.value)


def show_state(state: BulkState) -> ItemState:
    """The state as it is told."""
    return ItemState.HANDED_OUT if state is BulkState.QUEUED else ItemState(state.value)


class BatchCounts(BaseModel):
    """How many items stand where. `accepted` are the mails; each is in one of the states that follow it."""

    items: int = Field(description="of the upload", examples=[100_000])
    invalid: int = Field(description="items that were no mails; `problem` of each says why", examples=[2])
    accepted: int = Field(description="mails", examples=[99_998])
    pending: int = Field(description="wait for their turn", examples=[60_000])
    handed_out: int = Field(description="are with the senders", examples=[998])
    deferred: int = Field(description="failed for now, and are tried again", examples=[10])
    unknown: int = Field(description="nobody can know yet whether the relay has them", examples=[0])
    sent: int = Field(description="the relay has taken them", examples=[38_980])
    partially_sent: int = Field(description="taken for some recipients, the others are final", examples=[0])
    failed: int = Field(description="for good", examples=[10])
    expired: int = Field(description="their time was over", examples=[0])
    cancelled: int = Field(examples=[0])


class BatchLinks(BaseModel):
    """Where to read on."""

    self: str = Field(examples=[f"/v1/batches/{_ID}"])
    items: str = Field(examples=[f"/v1/batches/{_ID}/items"])
    events: str = Field(examples=[f"/v1/batches/{_ID}/events"])


class BatchView(BaseModel):
    """A batch and how it stands, at most about a second old."""

    id: UUID = Field(examples=[_ID])
    name: str | None = Field(default=None, examples=["Spring letter"])
    state: BatchState
    detail: str | None = Field(default=None, description="why it was aborted: then nothing was sent")
    counts: BatchCounts
    percent: float = Field(description="of the mails that have their end; 100 only once all have", examples=[39.0])
    rate: float | None = Field(default=None, description="mails a second while it runs", examples=[812.5])
    estimated_end: datetime | None = Field(default=None, description="while it runs, if it goes on as it does")
    created_at: datetime
    started_at: datetime | None = Field(default=None, description="when the upload was whole")
    finished_at: datetime | None = Field(default=None, description="when every mail had its end")
    retry_of: UUID | None = Field(default=None, description="the batch whose failed mails these are")
    retried_as: UUID | None = Field(default=None, description="the batch that tries the failed ones again")
    test: bool | None = Field(default=None, description="true: simulated, nothing is transmitted")
    links: BatchLinks


class BatchPage(BaseModel):
    """Batches, newest first."""

    data: list[BatchView]
    next: str | None = Field(default=None, description="there are more: `after` of the next request")


class ItemProblem(BaseModel):
    """An item that is no mail."""

    number: int = Field(description="of the item, from 1 on", examples=[17])
    line: int | None = Field(default=None, description="of the uploaded lines, from 1 on", examples=[18])
    problem: ProblemDocument = Field(description="as `POST /v1/emails` would answer; pointers are into the item")


class BatchAccepted(BaseModel):
    """The upload is stored; its mails leave in their turn."""

    id: UUID = Field(examples=[_ID])
    name: str | None = None
    state: BatchState = Field(examples=["running"])
    accepted: int = Field(description="mails that will be sent", examples=[99_998])
    invalid: int = Field(description="items that are no mails", examples=[2])
    problems: list[ItemProblem] = Field(description="the first 20 of these; `links.items` has all")
    links: BatchLinks


class BatchItemView(BaseModel):
    """An item: a mail and where it stands, or what is wrong with it."""

    number: int = Field(description="from 1 on, in the order of the upload", examples=[1])
    line: int | None = None
    id: UUID | None = Field(default=None, description="the mail's; `GET /v1/emails/{id}` has all that is known of it")
    state: ItemState
    problem: ProblemDocument | None = None


class BatchItemPage(BaseModel):
    """Items, in the order of the upload."""

    data: list[BatchItemView]
    next: str | None = Field(default=None, description="there are more: `after` of the next request")


def link(batch_id: UUID) -> BatchLinks:
    """Where to read on about a batch."""
    path = f"/v1/batches/{batch_id}"
    return BatchLinks(self=path, items=f"{path}/items", events=f"{path}/events")


def show_batch(batch: Batch) -> BatchView:
    """A batch as it is told."""
    kept = {state: count for state, count in batch.counts.items() if state is not BulkState.SKIPPED}  # a mailing's only
    states: dict[str, Any] = {show_state(state).value: count for state, count in kept.items()}
    return BatchView(
        id=batch.id,
        name=batch.name,
        state=batch.state,
        detail=batch.detail,
        counts=BatchCounts(items=batch.items, invalid=batch.invalid, accepted=batch.accepted, **states),
        percent=batch.percent,
        rate=round(batch.rate, 1) if batch.rate is not None and batch.state is BatchState.RUNNING else None,
        estimated_end=batch.estimate_end(),
        created_at=batch.created_at,
        started_at=batch.started_at,
        finished_at=batch.finished_at,
        retry_of=batch.retry_of,
        retried_as=batch.retried_as,
        test=batch.test or None,
        links=link(batch.id),
    )
