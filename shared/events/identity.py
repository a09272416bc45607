"""Derived identities (R11): the same fact always gets the same id, two facts never share one.

All are UUIDv5 (RFC 9562 §5.5) under namespaces of our own. Times enter as integer milliseconds: a client that
holds seconds as a float must round, never truncate.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID, SafeUUID, uuid5

import uuid_utils

from shared.events.wire import Coordinates, EventType

_ROOT = UUID("6d696c65-6e61-5000-8000-6c6574746572")
RECORD_NAMESPACE = uuid5(_ROOT, "record")
EVENT_NAMESPACE = uuid5(_ROOT, "event")
OCCURRENCE_NAMESPACE = uuid5(_ROOT, "occurrence")
OCCURRENCE_MAIL_NAMESPACE = uuid5(_ROOT, "occurrence mail")
RUN_NAMESPACE = uuid5(_ROOT, "run asked for")
MESSAGE_NAMESPACE = uuid5(_ROOT, "message")
_EVENT_HASH = hashlib.sha1(EVENT_NAMESPACE.bytes, usedforsecurity=False)
_BARE, _VERSION_5 = ~(0xF << 76 | 0b11 << 62), 5 << 76 | 0b10 << 62  # RFC 9562 §4.1, §4.2
_WITHOUT_COUNTER = ~(0xFFF << 64)
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def new_email_id() -> UUID:
    """A fresh UUIDv7 (RFC 9562 §5.7): its time lets the read model find the mail's partition from the id alone."""
    return make_uuid(uuid_utils.uuid7().int)


def make_uuid(number: int) -> UUID:
    """A UUID of 128 bits; the constructor takes five times as long to ask what it was given."""
    made = UUID.__new__(UUID)
    object.__setattr__(made, "int", number)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


class Namespace:
    """UUIDv5 of texts in one namespace, as `uuid.uuid5` gives it at a third of the cost: its hash is begun once."""

    def __init__(self, namespace: UUID) -> None:
        self._begun = hashlib.sha1(namespace.bytes, usedforsecurity=False)

    def name(self, text: str) -> UUID:
        """The id of `text`."""
        hashed = self._begun.copy()
        hashed.update(text.encode())
        return _read_name(hashed)


def _read_name(hashed: "hashlib._Hash") -> UUID:
    """The UUIDv5 that a SHA-1 of namespace and name stands for (RFC 9562 §5.5)."""
    return make_uuid(int.from_bytes(hashed.digest()[:16], "big") & _BARE | _VERSION_5)


_RECORDS = Namespace(RECORD_NAMESPACE)
_OCCURRENCES = Namespace(OCCURRENCE_NAMESPACE)
_RUNS = Namespace(RUN_NAMESPACE)


def derive_record_id(cluster_id: str, record: Coordinates) -> UUID:
    """The email id of a record whose publisher gave none."""
    return _RECORDS.name(f"{cluster_id}/{record.topic}/{record.partition}/{record.offset}/{record.stamp}")


def derive_bulk_entry_id(bulk_id: UUID, index: int) -> UUID:
    """The email id of entry `index` of a bulk event, where the entry gave none."""
    return Namespace(bulk_id).name(str(index))


def derive_batch_entry_id(batch_id: UUID, index: int) -> UUID:
    """The email id of entry `index` (below 4096) of a batch that came in over HTTP: a UUIDv7, as the batch's is.

    The read model finds a mail by its id's time, which a UUIDv5 has not. The index stands where RFC 9562 §6.2 has a
    counter, so ids sort as the entries do; the 62 random bits are the batch's, and its own id is none of its entries'.
    """
    return make_uuid((batch_id.int & _WITHOUT_COUNTER | index << 64) ^ 1)


def derive_occurrence_id(task_id: int, due_at: datetime) -> UUID:
    """The id of a task's occurrence at a due time (with a zone), which enters as integer milliseconds."""
    return _OCCURRENCES.name(f"{task_id}/{round(due_at.timestamp() * 1000)}")


def derive_run_id(account: str, path: str, idempotency_key: str, *, is_test: bool) -> UUID:
    """The id of a run that is asked for, by a request to `path`, with a key: asked again, it is the same run."""
    return _RUNS.name(f"{account}\n{path}\n{'test' if is_test else ''}\n{idempotency_key}")


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
    return _read_name(_hash_event(subject_text, event_type, attempt, reason, final, recipients))


def name_event(
    subject: str, event_type: str, attempt: int, reason: str, *, final: bool, recipients: Iterable[str]
) -> str:
    """`derive_event_id` as text, for a subject given as text: a third of the time, and every mail has one."""
    return _write_name(_hash_event(subject, event_type, attempt, reason, final, recipients))


def name_sent_event(subject: str, attempt: int, recipient: str) -> str:
    """`name_event` of an `email.sent` with one recipient, which nearly every mail ends with."""
    hashed = _EVENT_HASH.copy()
    hashed.update(f"{subject}\n{EventType.SENT.value}\n{attempt}\n\n1\n{recipient}".encode())
    return _write_name(hashed)


def _write_name(hashed: "hashlib._Hash") -> str:
    name = hashed.hexdigest()
    variant = _VARIANTS[name[16]]  # RFC 9562 §4.1
    return f"{name[:8]}-{name[8:12]}-5{name[13:16]}-{variant}{name[17:20]}-{name[20:32]}"


def _hash_event(
    subject: str, event_type: str, attempt: int, reason: str, final: bool, recipients: Iterable[str]
) -> "hashlib._Hash":
    parts = (subject, event_type, str(attempt), reason, "1" if final else "0", *sorted(recipients))
    hashed = _EVENT_HASH.copy()
    hashed.update("\n".join(parts).encode())
    return hashed
