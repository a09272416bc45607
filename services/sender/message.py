"""From a mail's fields to the bytes on the wire (RFC 5322, MIME), identical at every resend (R12).

Joined from encoded parts, headers by headers.py. The standard library's `email.message` would take twenty times as
long, and what it writes does not always come back as it went in: it folds long names wrongly, and leaves NUL, lines
beyond 998 octets and file names that look like encoded words as they are.
"""

import base64
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from services.sender.headers import LINE_MAX, encode_addresses, encode_parameter, encode_text
from shared.addresses import Mailbox
from shared.events import Attachment, EmailRequested
from shared.templates import RenderedContent

_LEADING_DOT = re.compile(rb"\n\.")


class BuiltMessage(NamedTuple):
    """`content`: CRLF lines, dot-stuffed, ending in CRLF. `needs_utf8`: only for a relay with SMTPUTF8."""

    content: bytes
    needs_utf8: bool


class Identity(NamedTuple):
    """What makes a resend byte-identical: Message-ID (with brackets), boundary stem, and date."""

    message_id: str
    stem: str
    date: datetime


def name_message(email_id: UUID, sender: Mailbox, domain: str | None = None) -> str:
    """Message-ID is `<email id@domain of From>`, or of the domain set by the operator."""
    return f"<{email_id}@{domain or sender.domain}>"


def identify(email_id: UUID, sender: Mailbox, accepted_at: datetime, domain: str | None = None) -> Identity:
    """What the mail's bytes depend on beside its content."""
    return Identity(name_message(email_id, sender, domain), f"=_{email_id.int:032x}", accepted_at)


def build_message(mail: EmailRequested, content: RenderedContent, identity: Identity) -> BuiltMessage:
    """The whole message. Bcc appears nowhere in it."""
    body = (
        _join_files(mail.attachments, content, identity.stem)
        if mail.attachments
        else _join_texts(content, identity.stem)
    )
    message = _build_head(mail, content.subject, identity) + body
    if _LEADING_DOT.search(message):  # in half the time that `in` takes
        message = message.replace(b"\r\n.", b"\r\n..")
    return BuiltMessage(message, _needs_utf8(mail))


def _needs_utf8(mail: EmailRequested) -> bool:
    """Whether an address of the envelope or of a header lies beyond ASCII (RFC 6531)."""
    for box in (mail.from_, *mail.to, *mail.cc, *mail.bcc, *mail.reply_to):
        if not box.address.isascii():
            return True
    return mail.envelope_from is not None and not mail.envelope_from.isascii()


def _build_head(mail: EmailRequested, subject: str, identity: Identity) -> bytes:
    lines = [encode_addresses("From", [mail.from_]), encode_text("Subject", subject)]
    if mail.to:
        lines.append(encode_addresses("To", mail.to))
    if mail.cc:
        lines.append(encode_addresses("Cc", mail.cc))
    if mail.reply_to:
        lines.append(encode_addresses("Reply-To", mail.reply_to))
    if mail.headers:
        lines += (encode_text(name, value) for name, value in mail.headers.items())
    date = _format_date(int(identity.date.timestamp()))
    lines.append(f"Date: {date}\r\nMessage-ID: {identity.message_id}\r\nMIME-Version: 1.0\r\n".encode("ascii"))
    return b"\r\n".join(lines)


@lru_cache(maxsize=1000)
def _format_date(seconds: int) -> str:
    """RFC 5322; mails of one second share it, writing it takes as long as all other headers."""
    return format_datetime(datetime.fromtimestamp(seconds, UTC))


# --- text and html ---


def _join_texts(content: RenderedContent, stem: str) -> bytes:
    """One part, or both as alternatives, with their MIME headers."""
    if content.text is None or content.html is None:
        media_type, body = (b"text/plain", content.text) if content.html is None else (b"text/html", content.html)
        only = _join_part(media_type, body or "")
        return only if only.endswith(b"\r\n") else only + b"\r\n"
    parts = (_join_part(b"text/plain", content.text), _join_part(b"text/html", content.html))
    return _join_multipart(b"alternative", stem, parts)


def _join_multipart(subtype: bytes, boundary: str, parts: Sequence[bytes]) -> bytes:
    mark = b"\r\n--" + boundary.encode("ascii")
    head = b'Content-Type: multipart/%b; boundary="%b"\r\n' % (subtype, mark[4:])
    between = mark + b"\r\n"
    return b"%b%b%b%b--\r\n" % (head, between, between.join(parts), mark)


def _join_part(media_type: bytes, text: str) -> bytes:
    """A part with its headers. 7bit or base64, never 8bit: no relay needs 8BITMIME for what we send."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and "\x00" not in text and _fits(text):
        encoding, body = b"7bit", text.encode("ascii").replace(b"\n", b"\r\n")
    else:
        octets = text.encode("utf-8", "replace").replace(b"\n", b"\r\n")  # a bare CR or LF is never sent
        encoding, body = b"base64", base64.encodebytes(octets).replace(b"\n", b"\r\n")
    return b'Content-Type: %b; charset="utf-8"\r\nContent-Transfer-Encoding: %b\r\n\r\n%b' % (
        media_type,
        encoding,
        body,
    )


def _fits(text: str) -> bool:
    """Whether no line is too long: from each line's end, another must be found within one length."""
    start, rest = 0, len(text) - LINE_MAX
    while start < rest:
        end = text.rfind("\n", start, start + LINE_MAX + 1)
        if end < 0:
            return False
        start = end + 1
    return True


# --- attachments ---


def _join_files(attachments: Sequence[Attachment], content: RenderedContent, stem: str) -> bytes:
    """mixed(alternative(text, related(html, inline files)), other files), without the layers that have one part."""
    inline = [each for each in attachments if each.content_id and content.html is not None]
    others = [each for each in attachments if not (each.content_id and content.html is not None)]
    parts = [] if content.text is None else [_join_part(b"text/plain", content.text)]
    if content.html is not None:
        html = _join_part(b"text/html", content.html)
        if inline:  # they belong to the HTML part (RFC 2387)
            related = [html, *(_join_file(each, "inline") for each in inline)]
            html = _join_multipart(b'related; type="text/html"', f"{stem}_2", related)
        parts.append(html)
    body = _join_multipart(b"alternative", f"{stem}_1", parts) if len(parts) > 1 else parts[0]
    if not others:
        return body
    return _join_multipart(b"mixed", f"{stem}_0", [body, *(_join_file(each, "attachment") for each in others)])


def _join_file(attachment: Attachment, disposition: str) -> bytes:
    lines = [
        f"Content-Type: {_carry_type(attachment.content_type)}".encode("ascii"),
        b"Content-Transfer-Encoding: base64",
        encode_parameter(f"Content-Disposition: {disposition}", "filename", attachment.filename),
    ]
    if attachment.content_id:
        lines.append(encode_text("Content-ID", f"<{attachment.content_id}>"))
    content = base64.encodebytes(base64.b64decode(attachment.content)).replace(b"\n", b"\r\n")
    return b"\r\n".join((*lines, b"", content))


def _carry_type(content_type: str) -> str:
    """Composite types cannot carry plain bytes (RFC 2046 §5); such a file travels as what it is: octets."""
    composite = content_type.lower().startswith(("message/", "multipart/"))
    return "application/octet-stream" if composite else content_type
