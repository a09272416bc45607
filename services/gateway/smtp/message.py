"""From a message and its envelope to the mail's fields. Pure.

Who gets the mail is the envelope alone: an address of To or Cc that no RCPT TO named gets nothing, and an event cannot
show one who gets nothing, so it is left out; a recipient in neither is a blind copy.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any

import orjson
from pydantic import ValidationError

from services.gateway.smtp.fields import Fields, Inexpressible
from services.gateway.smtp.parts import read_content
from shared.addresses import Mailbox
from shared.events import EmailRequested, list_errors
from shared.whole_numbers import HOLDS_BEYOND, find_rounded

_SEPARATORS = re.compile(r"[,\s]+")
_OWN = frozenset({"tags", "metadata"})
_PARSING_MAX = 20_000_000  # the library compares each line with the boundaries of all parts around it: some 3 s
_GIVEN_ID = "message_id"  # under this name the given Message-ID is in the mail's metadata


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """`message_id`: as it was given. `left_out`: addresses in To and Cc that are no recipients."""

    mail: EmailRequested
    message_id: str | None
    left_out: int


def read_message(content: bytes, mail_from: str, recipients: Sequence[str]) -> ReceivedMail:
    """Raises Inexpressible. The addresses of the envelope are in the form that `check_address` gives them."""
    if content.count(b"\n") * content.lower().count(b"boundary") > _PARSING_MAX:
        raise Inexpressible("there are too many parts and lines")
    try:
        message = message_from_bytes(content)
        fields = Fields(message)
        sender = _read_sender(fields)
        to, cc, bcc, left_out = _sort_recipients(fields, recipients)
        body = read_content(message)
        message_id = fields.read_text("Message-ID")
        described: dict[str, Any] = {
            "from": sender,
            "to": to,
            "cc": cc,
            "bcc": bcc,
            "reply_to": fields.read_addresses("Reply-To"),
            "envelope_from": None if mail_from == sender.address else mail_from,
            "subject": fields.read_text("Subject") or "",
            "text": body.text,
            "html": body.html,
            "headers": fields.list_others(),
            "attachments": body.files,
            **_read_own(fields, message_id),
        }
        return ReceivedMail(EmailRequested.model_validate(described), message_id or None, left_out)
    except ValidationError as exc:
        error = list_errors(exc)[0]
        raise Inexpressible(f"{error['pointer']} {error['detail']}".strip()) from None
    except RecursionError:
        raise Inexpressible("parts are nested too deeply") from None


def _read_sender(fields: Fields) -> Mailbox:
    senders = fields.read_addresses("From")
    if len(senders) != 1:
        raise Inexpressible("give exactly one address in From")
    return senders[0]


def _sort_recipients(
    fields: Fields, recipients: Sequence[str]
) -> tuple[list[Mailbox], list[Mailbox], list[Mailbox], int]:
    """To, Cc, blind copies, and how many addresses were left out. Case does not count between header and envelope."""
    exact, loose = set(recipients), {address.lower(): address for address in reversed(recipients)}
    shown: set[str] = set()
    lists: list[list[Mailbox]] = []
    left_out = 0
    for name in ("To", "Cc"):
        boxes = []
        for box in fields.read_addresses(name):
            address = box.address if box.address in exact else loose.get(box.address.lower())
            if address is None:
                left_out += 1
            else:
                boxes.append(Mailbox(address, box.name))
                shown.add(address)
        lists.append(boxes)
    hidden = [Mailbox(address) for address in recipients if address not in shown]
    return lists[0], lists[1], hidden, left_out


def _read_own(fields: Fields, message_id: str | None) -> dict[str, Any]:
    """Tags and metadata. The given Message-ID is kept in the metadata: Milena gives the message one of its own."""
    unknown = fields.list_own() - _OWN
    if unknown:
        raise Inexpressible(f"X-Milena-{min(unknown).title()} is not known; there are X-Milena-Tags and -Metadata")
    metadata: Any = {}
    if given := fields.read_text("X-Milena-Metadata"):
        try:
            metadata = orjson.loads(given)
        except orjson.JSONDecodeError:
            metadata = None
        if not isinstance(metadata, dict):
            raise Inexpressible('X-Milena-Metadata must be a JSON object, as {"order": 42}')
        if find_rounded(given.encode(), metadata.values()):
            raise Inexpressible(f"X-Milena-Metadata {HOLDS_BEYOND}")
    if message_id:
        metadata = {_GIVEN_ID: message_id, **metadata}
    tags = [tag for tag in _SEPARATORS.split(fields.read_text("X-Milena-Tags") or "") if tag]
    return {"tags": tags, "metadata": metadata}
