"""Derived identities (R11): the same fact always gets the same id, two facts never share one.

All are UUIDv5 (RFC 9562 §5.5) under namespaces of our own. Times enter as integer milliseconds: a client that
holds seconds as a float must round, never truncate.
"""

from collections.abc import Iterable
from uuid import UUID, uuid5

import uuid_utils

from shared.events.wire import Coordinates

_ROOT = UUID("6d696c65-6e61-5000-8000-6c6574746572")
RECORD_NAMESPACE = uuid5(_ROOT, "record")
EVENT_NAMESPACE = uuid5(_ROOT, "event")
OCCURRENCE_NAMESPACE = uuid5(_ROOT, "occurrence")


def new_email_id() -> UUID:
    """A fresh UUIDv7 (RFC 9562 §5.7): its time lets the read model find the mail's partition from the id alone."""
    return UUID(int=uuid_utils.uuid7().int)


def to_milliseconds(seconds: float) -> int:
    """A broker timestamp held as float seconds (Faust) back to the integer it was."""
    return round(seconds * 1000)


def derive_record_id(cluster_id: str, record: Coordinates) -> UUID:
    """The email id of a record whose publisher gave none."""
    return uuid5(
        RECORD_NAMESPACE,
        f"{cluster_id}/{record.topic}/{record.partition}/{record.offset}/{record.stamp}",
    )


def derive_bulk_entry_id(bulk_id: UUID, index: int) -> UUID:
    """The email id of entry `index` of a bulk event, where the entry gave none."""
    return uuid5(bulk_id, str(index))


def derive_event_id(
    subject: UUID | Coordinates,
    event_type: str,
    *,
    attempt: int = 0,
    reason: str = "",
    final: bool = False,
    recipients: Iterable[str] = (),
) -> UUID:
    """`ce_id` of a result event. `subject`: the email id, or the record's coordinates where there is no id."""
    if isinstance(subject, Coordinates):
        subject_text = f"{subject.topic}/{subject.partition}/{subject.offset}/{subject.stamp}"
    else:
        subject_text = str(subject)
    parts = (subject_text, event_type, str(attempt), reason, str(int(final)), *sorted(recipients))
    return uuid5(EVENT_NAMESPACE, "\n".join(parts))
