"""Whether an item of a batch is a mail that may be sent: as `POST /v1/emails` would say of it. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from services.scheduler.batches.numbering import derive_item_id
from services.scheduler.batches.sharing import SharedContent
from services.scheduler.batches.splitting import Piece
from services.scheduler.pacing.rows import BulkRow, keep_mail
from shared.access import ApiKey
from shared.bodies import refuse_rounded
from shared.composing.attachments import AttachmentRules
from shared.composing.composer import Identity, TooLarge, compose_full
from shared.composing.forms import FREE_FIELDS, read_full
from shared.composing.refusing import compose, explain_size
from shared.events import EmailRequested, UnreadableEvent
from shared.problems import Problem, invalid_content

_STORED = (
    "templates that are stored cannot be used in a batch: write subject, text and html into the mail; what many mails"
    " share is stored once"
)
_FREE = ("content", *FREE_FIELDS)


class BadItem(NamedTuple):
    """An item that is no mail, or may not be sent. `problem` is a problem document, its pointers are into the item."""

    number: int
    line: int | None
    problem: dict[str, Any]


class TooMuchApart(Exception):
    """The common content has been judged again for so many items that the upload would be too large with it in each."""


@dataclass(slots=True)
class Judge:
    """Judges the items of one batch. `event_limit` in bytes of a mail as an event, `item_limit` of an item as sent.

    A first item `{"content": {…}}` is none: what it says is said of all the others, as far as they do not say it
    themselves. Where that spares an upload it does not spare judging; `apart_limit` bounds, in bytes, what is judged
    of it again and again because items are not like the one before (sharing.py).
    """

    batch_id: UUID
    key: ApiKey
    received_at: datetime
    traceparent: str
    rules: AttachmentRules
    event_limit: int
    item_limit: int
    apart_limit: int = 1024**3
    _common: dict[str, Any] | None = None
    _common_size: int = 0
    _apart: int = 0
    _shared: SharedContent | None = None

    def judge(self, piece: Piece) -> BulkRow | BadItem | None:
        """The mail to keep, or why there is none; None for the common content. Raises TooMuchApart."""
        number = piece.number
        try:
            fields = self._read(piece)
            if number == 1 and self._take_common(fields, piece.size):
                return None
            if self._common is not None:
                number, fields = number - 1, {**self._common, **fields}
            email_id = derive_item_id(self.batch_id, number)
            row = self._shared.keep(fields, number, email_id, self.event_limit) if self._shared else None
            return row or self._judge(number, email_id, fields)
        except Problem as problem:
            return BadItem(number, piece.line, problem.to_document())

    def _take_common(self, fields: dict[str, Any], size: int) -> bool:
        if fields.keys() != {"content"}:
            return False
        content = fields["content"]
        if not isinstance(content, dict):
            detail = "must be an object: the fields that all items share"
            raise invalid_content([{"detail": detail, "pointer": "/content"}])
        if "template" in content:
            raise invalid_content([{"detail": _STORED, "pointer": "/content/template"}])
        self._common, self._common_size = content, size
        return True

    def _read(self, piece: Piece) -> dict[str, Any]:
        if piece.value is None:
            detail = f"An item may have at most {self.item_limit} bytes; this has {piece.size}."
            raise Problem(413, "too-large", detail, limit=self.item_limit)
        try:
            fields = orjson.loads(piece.value)
        except orjson.JSONDecodeError as exc:
            detail = f"The item is not JSON (column {exc.colno}): {exc.msg}."
            raise Problem(400, "malformed-json", detail) from None
        if not isinstance(fields, dict):
            raise invalid_content([{"detail": "an item must be a JSON object", "pointer": ""}])
        if "template" in fields:
            raise invalid_content([{"detail": _STORED, "pointer": "/template"}])
        refuse_rounded(piece.value, [fields.get(name) for name in _FREE])
        return fields

    def _judge(self, number: int, email_id: UUID, fields: dict[str, Any]) -> BulkRow:
        self._apart += self._common_size
        if self._apart > self.apart_limit:
            raise TooMuchApart
        identity = Identity(email_id, self.received_at, str(self.batch_id))
        mail = compose(self._write, read_full(fields, self.key.only_sender), self.key, identity)
        row = self._keep(number, mail)
        self._shared = SharedContent.of(fields, mail, row)
        return row

    def _write(self, mail: EmailRequested, key: ApiKey, identity: Identity) -> EmailRequested:
        return compose_full(mail, key, identity, self.rules)

    def _keep(self, number: int, mail: EmailRequested) -> BulkRow:
        try:
            return keep_mail(mail, self.received_at, self.traceparent, self.event_limit, number)
        except UnreadableEvent:
            raise explain_size(TooLarge(len(mail.to_json()), self.event_limit)) from None
