"""What the scheduler answers for mail that it does not give back: `email.failed`. Pure."""

import re
from datetime import datetime
from typing import Any

from shared.events import (
    DEFAULT_ACCOUNT,
    Coordinates,
    EmailFailed,
    EmailRequested,
    EventType,
    FailedRecipient,
    RecipientOutcome,
    Source,
    UnreadableEvent,
    build_headers,
)
from shared.producing import Message
from shared.states import FailureReason, RecipientState
from shared.tracing import SpanKind, begin_hop

SOURCE = "/milena/scheduler"  # ce_source of everything the scheduler publishes

_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def describe_cancelled(mail: EmailRequested, cancelled_at: datetime) -> EmailFailed:
    """The one end of a mail cancelled before it was due; the same again whenever it is built again."""
    return EmailFailed(
        id=mail.id,
        recipients=[
            FailedRecipient(address=address, diagnostic="cancelled before it was due") for address in mail.recipients
        ],
        reason=FailureReason.CANCELLED,
        final=True,
        failed_at=cancelled_at,
        complete=True,
        outcomes=[
            RecipientOutcome(address=address, state=RecipientState.FAILED, attempt=0) for address in mail.recipients
        ],
        digest=mail.compute_digest(),
        account=mail.account,
        callback=mail.callback,
        metadata=mail.metadata,
        tags=mail.tags,
        mailing_id=mail.mailing_id,
        batch_id=mail.batch_id,
        test=mail.test,
    )


def describe_unreadable(error: UnreadableEvent, data: dict[str, Any], record: Coordinates) -> EmailFailed:
    """What is wrong with an event of ours, where it lies, and an id only where it was derived (R4)."""
    account = data.get("account")
    return EmailFailed(
        id=error.event_id,
        reason=FailureReason.INVALID_REQUEST,
        final=True,
        failed_at=record.time,
        complete=error.event_id is not None,
        account=account if isinstance(account, str) and _ACCOUNT.fullmatch(account) else DEFAULT_ACCOUNT,
        source=Source(topic=record.topic, partition=record.partition, offset=record.offset),
        errors=error.errors,
    )


def to_message(failed: EmailFailed, topic: str, traceparent: str | None, record: Coordinates | None = None) -> Message:
    """The record to publish; its key is the email id, or none."""
    assert failed.failed_at is not None
    hop = begin_hop(f"publish {EventType.FAILED}", SpanKind.PRODUCER, traceparent)
    hop.end()
    headers = build_headers(EventType.FAILED, failed.event_id(record), SOURCE, failed.failed_at, hop.traceparent)
    return Message(topic, str(failed.id).encode() if failed.id else None, failed.to_json(), headers)
