"""Which requests a result event asks for, and what each will say. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

import orjson

from shared.events import CallbackSpec, EmailFailed, EmailSent, EventType, format_time
from shared.states import RecipientState

_NAMESPACE = UUID("c1b1f6c0-6f7a-5d0e-9c57-63616c6c6261")


class DeliveryState(StrEnum):
    """`pending` until an attempt succeeds (`delivered`) or the last one has failed (`failed`)."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request to make: `body` is sent as it stands here, at every attempt."""

    id: UUID
    account: str
    email_id: UUID
    event_id: UUID
    type: str
    url: str
    body: bytes
    traceparent: str | None


def plan_delivery(
    event: EmailSent | EmailFailed, event_id: UUID, time: datetime, data: dict[str, Any], traceparent: str | None
) -> Delivery | None:
    """The request this event asks for, None where it asks for none.

    `event_id` is its ce_id, `time` its ce_time, `data` its value as published. The same event published again gives
    the same delivery.
    """
    if event.callback is None or event.id is None or not _wants(event.callback, event):
        return None
    url = event.callback.url if isinstance(event.callback, CallbackSpec) else event.callback
    event_type = EventType.SENT if isinstance(event, EmailSent) else EventType.FAILED
    body = orjson.dumps({"type": event_type.value, "timestamp": format_time(time), "data": data})
    identity = uuid5(_NAMESPACE, f"{event_id}\n{url}")
    return Delivery(identity, event.account, event.id, event_id, event_type.value, url, body, traceparent)


def _wants(callback: str | CallbackSpec, event: EmailSent | EmailFailed) -> bool:
    """A plain URL wants the one event that completes a mail of which something was sent; a list what it names."""
    if isinstance(callback, CallbackSpec):
        return _kind_of(event) in callback.on
    sent = any(each.state is RecipientState.SENT for each in event.outcomes or ())
    return event.complete and (sent or isinstance(event, EmailSent))


def _kind_of(event: EmailSent | EmailFailed) -> str:
    if isinstance(event, EmailSent):
        return "sent"
    return "failed" if event.final else "deferred"
