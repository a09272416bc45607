"""What is kept of a bulk mail: what it shares with others apart from what is its own. Pure.

Both are JSON objects whose pieces are joined again as text when the mail leaves (messages.py): nothing is parsed or
written a second time. `send_at` and `priority` are left out (R1), `expires_at` is a column.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from services.scheduler.pacing.lanes import LaneKey, choose_lane
from shared.addresses import Mailbox
from shared.events import BulkEntry, BulkRequested, EmailRequested, UnreadableEvent, WireModel, make_uuid

_TAKEN_OUT = {"send_at", "priority", "expires_at"}
_OWN = {"id", "to", "cc", "bcc", "variables", "metadata", "retry_of", "unsubscribe_url"}
_NOT_SHARED = _TAKEN_OUT | _OWN | {"requested_at"}
_BULK_NOT_SHARED = _TAKEN_OUT | {"bulk_id", "mails", "paced", "plain"}
_PACED, _PLAIN = b',"paced":true}', b',"plain":true}'
ROOM = 300  # bytes that ids and expires_at take when the mail leaves
_LARGE = 8 * 1024  # bytes of content that are worth a row of their own, whoever else has it


class BulkRow(NamedTuple):
    """One mail to keep. `own` is a bulk event's entry without `id`, or without `content` a whole mail."""

    id: UUID
    lane: LaneKey
    number: int
    due_at: datetime
    expires_at: datetime | None
    content: bytes | None
    own: bytes
    traceparent: str | None

    @property
    def size(self) -> int:
        """Bytes of the event that this mail alone would be."""
        return len(self.content or b"") + len(self.own) + ROOM


class Content(NamedTuple):
    """A content of one lane, under the hash of its body."""

    id: UUID
    lane: LaneKey
    body: bytes


def keep_mail(
    mail: EmailRequested, received_at: datetime, traceparent: str | None, event_limit: int, number: int = 0
) -> BulkRow:
    """What to keep of a mail with `priority: bulk`. Raises UnreadableEvent where it would leave too large.

    `requested_at` stays with the record it came in, or mails of one content would not share it.
    """
    assert mail.id is not None, "read_email gives every mail its id"
    if mail.cc or mail.bcc or len(mail.to) != 1:
        content, own = None, _write(mail, _TAKEN_OUT)
    else:
        content = _write(mail, _NOT_SHARED, is_plain=mail.variables is None)
        own = write_own(mail.to[0], mail.variables, mail.metadata, mail.retry_of, mail.unsubscribe_url)
    lane = choose_lane(mail.account, mail.mailing_id, mail.batch_id)
    due_at = mail.send_at or received_at
    row = BulkRow(mail.id, lane, number, due_at, mail.expires_at, content, own, traceparent)
    return _check_size(row, event_limit)


def keep_bulk(bulk: BulkRequested, received_at: datetime, traceparent: str | None, event_limit: int) -> list[BulkRow]:
    """What to keep of a bulk event: a row for each entry. Raises UnreadableEvent where one would leave too large."""
    lane = choose_lane(bulk.account, bulk.mailing_id, bulk.batch_id)
    due_at = bulk.send_at or received_at
    content = write_content(bulk)
    rows = [
        BulkRow(
            email_id,
            lane,
            number,
            due_at,
            bulk.expires_at,
            content,
            _keep_entry(entry, is_plain=bulk.plain),
            traceparent,
        )
        for number, (email_id, entry) in enumerate(zip(bulk.list_ids(), bulk.mails, strict=True))
    ]
    _check_size(max(rows, key=lambda row: len(row.own)), event_limit)
    return rows


def write_content(bulk: BulkRequested) -> bytes:
    """What the mails of a bulk event share."""
    return _write(bulk, _BULK_NOT_SHARED, is_plain=bulk.plain)


def merge_rows(rows: Iterable[BulkRow]) -> list[BulkRow]:
    """Each id once, the first wins (R5), in the order of ids, so that two processes never wait for each other."""
    first: dict[UUID, BulkRow] = {}
    for row in rows:
        first.setdefault(row.id, row)
    return [first[key] for key in sorted(first)]


def share_contents(rows: Sequence[BulkRow]) -> tuple[list[bytes], list[UUID | None], list[Content]]:
    """For each row what is kept in it, and under which content; and the contents.

    A content that only one of the rows has is kept with it, unless it is large: a row of its own would cost more.
    """
    used = Counter((row.lane, row.content) for row in rows if row.content)
    contents = {
        (lane, body): Content(hash_content(body), lane, body)
        for (lane, body), count in used.items()
        if count > 1 or len(body) >= _LARGE
    }
    kept: list[bytes] = []
    ids: list[UUID | None] = []
    for row in rows:
        found = contents.get((row.lane, row.content)) if row.content else None
        kept.append(row.own if found or row.content is None else make_whole(row.id, row.content, row.own))
        ids.append(found.id if found else None)
    return kept, ids, list(contents.values())


def hash_content(body: bytes) -> UUID:
    """The id of a content."""
    return make_uuid(int.from_bytes(hashlib.blake2b(body, digest_size=16).digest(), "big"))


def make_whole(email_id: UUID, content: bytes, own: bytes) -> bytes:
    """The mail that an entry of this content stands for, as an event of its own."""
    return b'%b,"id":"%b",%b' % (content.removesuffix(_PLAIN).removesuffix(b"}"), str(email_id).encode(), own[1:])


def _write(event: WireModel, left_out: set[str], *, is_plain: bool = False) -> bytes:
    told = event.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True, exclude=left_out)
    written = told.encode().removesuffix(b"}") + _PACED
    return written.removesuffix(b"}") + _PLAIN if is_plain else written


def _keep_entry(entry: BulkEntry, *, is_plain: bool) -> bytes:
    variables = None if is_plain else entry.variables
    return write_own(entry.mailbox, variables, entry.metadata, entry.retry_of, entry.unsubscribe_url)


def write_own(
    to: Mailbox,
    variables: dict[str, Any] | None,
    metadata: dict[str, Any],
    retry_of: UUID | None,
    unsubscribe_url: str | None = None,
) -> bytes:
    """This mail's alone. `variables` are written where there are any, be they empty: without them it is no template."""
    # In brackets a quoted local part is read at once (check_effort): with as many as stand in one event that counts.
    written = str(to)
    own: dict[str, Any] = {"to": f"<{written}>" if '"' in written and not to.name else written}
    if variables is not None:
        own["variables"] = variables
    if metadata:
        own["metadata"] = metadata
    if retry_of:
        own["retry_of"] = retry_of
    if unsubscribe_url:
        own["unsubscribe_url"] = unsubscribe_url
    return orjson.dumps(own)


def _check_size(row: BulkRow, event_limit: int) -> BulkRow:
    if row.size > event_limit:
        detail = f"with id and expires_at written in, the event has {row.size} bytes, the limit is {event_limit}"
        raise UnreadableEvent([{"detail": detail, "pointer": ""}])
    return row
