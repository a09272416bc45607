"""Django's attachments, in each of their forms, as the API takes them."""

import mimetypes
from email.message import EmailMessage as PythonMessage
from email.message import Message
from typing import Any

from django.core.mail import EmailMessage
from django.utils.encoding import force_bytes

from milena.errors import MilenaError
from milena.mail import Attachment

_UNKNOWN = "application/octet-stream"


class UnsupportedFeature(MilenaError, ValueError):
    """The message has something that Milena cannot send as it is meant; nothing was sent."""


def read_attachment(attachment: Any) -> Attachment:
    """From a (filename, content, mimetype), an EmailAttachment, a MIMEBase or a MIMEPart. Raises UnsupportedFeature."""
    if isinstance(attachment, Message):
        return _read_part(attachment)
    filename, content, kind = (*attachment, None, None)[:3]
    filename = str(filename) if filename else None
    kind = kind or mimetypes.guess_type(filename or "")[0] or _UNKNOWN
    return Attachment(filename or _invent_name(kind), *_read_content(content, kind))


def _read_content(content: Any, kind: str) -> tuple[bytes, str]:
    if isinstance(content, EmailMessage):
        return content.message().as_bytes(), kind
    if isinstance(content, Message):
        return content.as_bytes(), kind
    written = content if isinstance(content, bytes) else force_bytes(content)
    if kind.startswith("text/"):
        try:
            written.decode()
        except UnicodeDecodeError:
            return written, _UNKNOWN  # as Django does: the type is a guess that was wrong
    return written, kind


def _read_part(part: Message) -> Attachment:
    kind = part.get_content_type()
    if part.is_multipart() and kind != "message/rfc822":
        raise UnsupportedFeature(f"an attachment that is {kind} itself cannot be sent: attach its parts")
    content_id = (part.get("Content-ID") or "").strip().strip("<>") or None
    return Attachment(part.get_filename() or _invent_name(kind), _decode(part, kind), kind, content_id)


def _decode(part: Message, kind: str) -> bytes:
    if kind == "message/rfc822":
        inner = part.get_payload(0)
        return inner.as_bytes() if isinstance(inner, Message | PythonMessage) else b""
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    charset = part.get_content_charset()
    if kind.startswith("text/") and charset and charset not in ("utf-8", "us-ascii"):
        try:
            return content.decode(charset).encode()
        except (LookupError, UnicodeDecodeError):
            return content
    return content


def _invent_name(kind: str) -> str:
    if kind == "message/rfc822":
        return "message.eml"
    return f"attachment{mimetypes.guess_extension(kind) or '.bin'}"
