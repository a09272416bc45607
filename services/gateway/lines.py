"""One line of a mail's timeline, and with it what a record says of the mail. Pure."""

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from services.gateway.projection import Mail
from shared.batching import Record
from shared.events import EventType

_RESULTS = (EventType.SENT.value, EventType.FAILED.value)


class Line(NamedTuple):
    """One line of a mail's timeline; `event_id` is the same whenever the same thing is told again."""

    email_id: UUID
    event_id: UUID
    type: str
    account: str
    at: datetime
    record: Record
    data: dict[str, Any]

    @property
    def position(self) -> tuple[datetime, str, int, int]:
        """Orders the records of one line, the same for everybody who sees them."""
        return (self.at, self.record.topic, self.record.partition, self.record.offset)


class Observation(NamedTuple):
    """What a record says. A cancellation is a line only: it must not make a mail that nobody asked for.

    `waits`: it need not be written before the other half, result or request, is read (services/gateway/company.py).
    """

    line: Line
    mail: Mail | None
    waits: bool = False

    @property
    def is_result(self) -> bool:
        """Whether it is what became of a mail, and no request or wish."""
        return self.line.type in _RESULTS


def find_earliest(lines: Iterable[Line]) -> list[Line]:
    """Each line once: the earliest record that tells it."""
    found: dict[tuple[int, int], Line] = {}
    for line in lines:
        key = (line.email_id.int, line.event_id.int)  # a UUID's own hash is Python
        known = found.setdefault(key, line)
        if known is not line and line.position < known.position:
            found[key] = line
    return list(found.values())


def draw_line(
    email_id: UUID,
    event_id: UUID,
    kind: EventType,
    account: str,
    record: Record,
    at: datetime,
    data: dict[str, Any],
    named: str | None,
) -> Line:
    """`named` is what the publisher calls the event."""
    said = {name: value for name, value in data.items() if value is not None}
    if named:
        ce_id = _read_uuid(named)
        if ce_id and ce_id != event_id:
            said["ce_id"] = str(ce_id)
    return Line(email_id, event_id, kind.value, account, at, record, said)


@lru_cache(maxsize=100)  # the mails of a bulk event share one
def _read_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
