"""From a mail's fields to the bytes on the wire (RFC 5322, MIME), identical at every resend (R12).

Two ways to the same message: a fast path joins encoded parts where nothing needs the standard library's care (plain
ASCII headers, text and html, no attachments); everything else goes through `email.message`.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import lru_cache
from uuid import UUID

from shared.addresses import Mailbox
from shared.events import Attachment, EmailRequested
from shared.templates import RenderedContent

_LINE_MAX = 990  # octets; RFC 5321 allows 998 without CRLF
_HEADER_MAX = 76
_PLAIN_HEADER = re.compile(r"[ -~]*")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
_POLICY = SMTP.clone(cte_type="7bit", max_line_length=78)
_UTF8_POLICY = _POLICY.clone(utf8=True)


@dataclass(frozen=True, slots=True)
class BuiltMessage:
    """`content`: CRLF lines, dot-stuffed, ending in CRLF. `needs_utf8`: only for a relay with SMTPUTF8."""

    content: bytes
    needs_utf8: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a resend byte-identical: Message-ID (with brackets), boundary stem, and date."""

    message_id: str
    stem: str
    date: datetime


def identify(email_id: UUID, sender: Mailbox, accepted_at: datetime, domain: str | None = None) -> Identity:
    """Message-ID is `<email id@domain of From>`, or of the domain set by the operator."""
    return Identity(f"<{email_id}@{domain or sender.domain}>", f"=_{email_id.hex}", accepted_at)


def build_message(mail: EmailRequested, content: RenderedContent, identity: Identity) -> BuiltMessage:
    """The whole message. Bcc appears nowhere in it."""
    addresses = (mail.from_, *mail.to, *mail.cc, *mail.reply_to)
    needs_utf8 = not all(each.address.isascii() for each in (*addresses, *mail.bcc))
    message = None if needs_utf8 or mail.attachments or mail.headers else _join(mail, content, identity)
    if message is None:
        message = _compose(mail, content, identity, needs_utf8)
    if b"\r\n." in message:
        message = message.replace(b"\r\n.", b"\r\n..")
    return BuiltMessage(b"." + message if message.startswith(b".") else message, needs_utf8)


# --- the fast path ---


def _join(mail: EmailRequested, content: RenderedContent, identity: Identity) -> bytes | None:
    """The message from joined parts, None where a header value needs encoding or folding."""
    head = _join_headers(mail, content.subject, identity)
    if head is None:
        return None
    if content.text is None or content.html is None:
        media_type, body = (b"text/plain", content.text) if content.html is None else (b"text/html", content.html)
        only = head + _join_part(media_type, body or "")
        return only if only.endswith(b"\r\n") else only + b"\r\n"
    boundary = identity.stem.encode()
    return b"".join(
        (
            head,
            b'Content-Type: multipart/alternative; boundary="' + boundary + b'"\r\n\r\n--' + boundary + b"\r\n",
            _join_part(b"text/plain", content.text),
            b"\r\n--" + boundary + b"\r\n",
            _join_part(b"text/html", content.html),
            b"\r\n--" + boundary + b"--\r\n",
        )
    )


def _join_headers(mail: EmailRequested, subject: str, identity: Identity) -> bytes | None:
    lines = [_address_line("From", [mail.from_]), _plain_line("Subject", subject)]
    for name, boxes in (("To", mail.to), ("Cc", mail.cc), ("Reply-To", mail.reply_to)):
        if boxes:
            lines.append(_address_line(name, boxes))
    lines.append(f"Date: {_format_date(identity.date.replace(microsecond=0))}")
    lines.append(f"Message-ID: {identity.message_id}")
    lines.append("MIME-Version: 1.0\r\n")
    if None in lines:
        return None
    return "\r\n".join(line for line in lines if line).encode("ascii")


@lru_cache(maxsize=64)
def _format_date(date: datetime) -> str:
    """RFC 5322 §3.3; mails of one second share it."""
    return format_datetime(date)


def _plain_line(name: str, value: str) -> str | None:
    line = f"{name}: {value}"
    if len(line) > _HEADER_MAX or "=?" in value or value != value.strip() or not _PLAIN_HEADER.fullmatch(value):
        return None
    return line


def _address_line(name: str, boxes: Sequence[Mailbox]) -> str | None:
    if not all(_PLAIN_NAME.fullmatch(box.name) for box in boxes):
        return None
    return _plain_line(name, ", ".join(map(str, boxes)))


def _join_part(media_type: bytes, text: str) -> bytes:
    body = _canonical_lines(text)
    if body.isascii() and b"\x00" not in body and max(map(len, body.split(b"\r\n"))) <= _LINE_MAX:
        encoding = b"7bit"
    else:
        encoding = b"base64"
        body = base64.encodebytes(body).replace(b"\n", b"\r\n")
    head = b'Content-Type: %b; charset="utf-8"\r\nContent-Transfer-Encoding: %b\r\n\r\n' % (media_type, encoding)
    return head + body


def _canonical_lines(text: str) -> bytes:
    """CRLF line ends, whatever came in; a bare CR or LF must never reach the wire."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\n", "\r\n").encode("utf-8", "replace")


# --- the standard library's path ---


def _compose(mail: EmailRequested, content: RenderedContent, identity: Identity, needs_utf8: bool) -> bytes:
    message = EmailMessage(policy=_UTF8_POLICY if needs_utf8 else _POLICY)
    message["From"] = _to_address(mail.from_)
    message["Subject"] = content.subject
    for name, boxes in (("To", mail.to), ("Cc", mail.cc), ("Reply-To", mail.reply_to)):
        if boxes:
            message[name] = tuple(_to_address(box) for box in boxes)
    message["Date"] = format_datetime(identity.date)
    message["Message-ID"] = identity.message_id
    for name, value in mail.headers.items():
        message[name] = value
    _fill(message, content, mail.attachments)
    for number, part in enumerate(each for each in message.walk() if each.is_multipart()):
        part.set_boundary(f"{identity.stem}_{number}")
    return message.as_bytes()


def _fill(message: EmailMessage, content: RenderedContent, attachments: Sequence[Attachment]) -> None:
    text = None if content.text is None else _lf(content.text)
    html = None if content.html is None else _lf(content.html)
    if text is not None:
        message.set_content(text)
        if html is not None:
            message.add_alternative(html, subtype="html")
    else:
        message.set_content(html or "", subtype="html")
    inline = [each for each in attachments if each.content_id and html is not None]
    if inline:
        _add_related(message, inline)
    for attachment in attachments:
        if attachment not in inline:
            maintype, subtype = _split_type(attachment.content_type)
            message.add_attachment(
                base64.b64decode(attachment.content),
                maintype=maintype,
                subtype=subtype,
                filename=attachment.filename,
                cid=f"<{attachment.content_id}>" if attachment.content_id else None,
            )


def _add_related(message: EmailMessage, inline: Sequence[Attachment]) -> None:
    """Inline images belong to the HTML part (RFC 2387)."""
    html_part = next(part for part in message.walk() if part.get_content_type() == "text/html")
    assert isinstance(html_part, EmailMessage)
    for attachment in inline:
        maintype, subtype = _split_type(attachment.content_type)
        html_part.add_related(
            base64.b64decode(attachment.content),
            maintype=maintype,
            subtype=subtype,
            cid=f"<{attachment.content_id}>",
            filename=attachment.filename,
            disposition="inline",
        )


def _split_type(content_type: str) -> tuple[str, str]:
    """Composite types cannot carry plain bytes (RFC 2046 §5); such a file travels as what it is: octets."""
    maintype, _, subtype = content_type.partition("/")
    return ("application", "octet-stream") if maintype.lower() in ("message", "multipart") else (maintype, subtype)


def _lf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()


def _to_address(box: Mailbox) -> Address:
    return Address(display_name=box.name, addr_spec=box.address)
