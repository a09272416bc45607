"""Mail that stays here: while an outbox is open, the backend hands nothing to Milena."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from milena.django.handles import LocalHandle
from milena.errors import MilenaError
from milena.handles import Handle

_open: list[list[Any]] = []


@contextmanager
def open_outbox() -> Iterator[list[Any]]:
    """Collect messages, as `django.core.mail.outbox` does; each has `milena_payload`, the JSON Milena would get."""
    messages: list[Any] = []
    _open.append(messages)
    try:
        yield messages
    finally:
        _open.remove(messages)


def collect(ready: list[tuple[Any, dict[str, Any]]]) -> list[Handle | MilenaError] | None:
    """Put messages into the outbox that was opened last; None where there is none."""
    if not _open:
        return None
    for message, payload in ready:
        kept = copy(message)
        for name in ("to", "cc", "bcc", "reply_to", "attachments"):
            setattr(kept, name, list(getattr(message, name)))
        kept.milena_payload = payload
        _open[-1].append(kept)
    return [LocalHandle(message.recipients()) for message, _ in ready]
