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
from shared.composing.attachments import AttachmentRules
from shared.composing.composer import Identity, TooLarge, compose_full
from shared.composing.forms import read_full
from shared.composing.refusing import compose, explain_size
from shared.events import EmailRequested, UnreadableEvent
from shared.problems import Problem, invalid_content

_STORED = (
    "templates that are stored cannot be used in a batch: write subject, text and html into the mail; what many mails"
    " share is stored once"
)


class BadItem(NamedTuple):
    """An item that is no mail, or may not be sent. `problem` is a problem document, its pointers are into the item."""

    number: int
    line: int | None
    problem: dict[str, Any]


@dataclass(slots=True)
class Judge:
    """Judges the items of one batch. `event_limit` in bytes of a mail as an event, `item_limit` of an item as sent."""

    batch_id: UUID
    key: ApiKey
    received_at: datetime
    traceparent: str
    rules: AttachmentRules
    event_limit: int
    item_limit: int
    _shared: SharedContent | None = None

    def judge(self, piece: Piece) -> BulkRow | BadItem:
        """The mail to keep, or why there is none."""
        try:
            fields = self._read(piece)
            email_id = derive_item_id(self.batch_id, piece.number)
            row = self._shared.keep(fields, piece.number, email_id, self.event_limit) if self._shared else None
            return row or self._judge(piece.number, email_id, fields)
        except Problem as problem:
            return BadItem(piece.number, piece.line, problem.to_document())

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
        return fields

    def _judge(self, number: int, email_id: UUID, fields: dict[str, Any]) -> BulkRow:
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
