"""Are two messages the same mail to whoever reads them, however they are written?"""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any

from services.sender.message import build_message, identify, name_message
from shared.events import EmailRequested
from shared.templates import RenderedContent

_OURS = {"message-id", "date", "mime-version", "from", "to", "cc", "bcc", "reply-to"}


def read_message(written: bytes) -> EmailMessage:
    """A message as Python's modern parser reads it."""
    return message_from_bytes(written, policy=policy.default)


def write_event(mail: EmailRequested) -> EmailMessage:
    """The message the sender makes of an event."""
    assert mail.id is not None
    identity = identify(mail.id, name_message(mail.id, mail.from_), datetime.now(UTC))
    built = build_message(mail, RenderedContent(mail.subject, mail.text, mail.html), identity)
    return read_message(built.content.replace(b"\r\n..", b"\r\n."))


def describe(message: EmailMessage) -> dict[str, Any]:
    """What a reader sees: people, other headers, bodies, attached files."""
    people = {name: _list_people(message, name) for name in ("from", "to", "cc", "bcc", "reply-to")}
    others = {name.lower(): str(value) for name, value in message.items()}
    shown = {name: value for name, value in others.items() if name not in _OURS and not name.startswith("content-")}
    leaves = [part for part in _walk(message) if isinstance(part, EmailMessage)]
    return {**people, "headers": shown, "parts": [_describe_part(part) for part in leaves]}


def _list_people(message: EmailMessage, name: str) -> list[tuple[str, str]]:
    pairs = getaddresses([str(value) for value in message.get_all(name, [])])
    return [(shown, _in_ascii(address)) for shown, address in pairs]


def _in_ascii(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain if domain.isascii() else domain.encode('idna').decode()}"


def _walk(part: Any) -> list[Any]:
    if part.get_content_maintype() == "multipart":
        return [leaf for each in part.iter_parts() for leaf in _walk(each)]
    return [part]


def _describe_part(part: EmailMessage) -> tuple[Any, ...]:
    content: Any = part.get_content()
    kind = part.get_content_type()
    if kind == "application/octet-stream" and (part.get_filename() or "").endswith(".eml"):
        kind, content = "message/rfc822", read_message(content)  # ours travels as octets (services/sender/message.py)
    if isinstance(content, EmailMessage):
        content = describe(content)
    elif isinstance(content, str):
        content = content.replace("\r\n", "\n").rstrip("\n")
    return kind, part.get_filename(), (part["content-id"] or "").strip("<>"), content
