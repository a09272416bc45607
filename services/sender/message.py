"""From a mail's fields to the bytes on the wire (RFC 5322, MIME), identical at every resend (R12).

Joined from encoded parts, headers by headers.py. The standard library's `email.message` would take twenty times as
long, and what it writes does not always come back as it went in: it folds long names wrongly, and leaves NUL, lines
beyond 998 octets and file names that look like encoded words as they are.
"""

import base64
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache, partial
from typing import NamedTuple
from uuid import UUID

from services.sender.headers import LINE_MAX, encode_addresses, encode_parameter, encode_text
from shared.addresses import Mailbox
from shared.events import Attachment, EmailRequested
from shared.templates import RenderedContent

PLAIN, HTML = b"text/plain", b"text/html"
_LEADING_DOT = re.compile(rb"\n\.")
_LINK_FIELDS = frozenset({"list-unsubscribe", "list-unsubscribe-post"})


class BuiltMessage(NamedTuple):
    """`content`: CRLF lines, dot-stuffed, ending in CRLF. `needs_utf8`: only for a relay with SMTPUTF8."""

    content: bytes
    needs_utf8: bool


class Memo(dict[object, bytes]):
    """What the mails of one bulk event have in common, encoded by the first of them that is built."""


class Identity(NamedTuple):
    """What makes a resend byte-identical: Message-ID (with brackets), boundary stem, and date."""

    message_id: str
    stem: str
    date: datetime


def name_message(email_id: UUID | str, sender: Mailbox, domain: str | None = None) -> str:
    """Message-ID is `<email id@domain of From>`, or of the domain set by the operator."""
    return f"<{email_id}@{domain or sender.domain}>"


def identify(email_id: UUID, message_id: str, accepted_at: datetime) -> Identity:
    """What the mail's bytes depend on beside its content."""
    return Identity(message_id, f"=_{email_id.int:032x}", accepted_at)


def build_message(
    mail: EmailRequested, content: RenderedContent, identity: Identity, memo: Memo | None = None
) -> BuiltMessage:
    """The whole message. Bcc appears nowhere in it. The bytes are the same with a `memo` and without."""
    text = None if content.text is None else _join_text(PLAIN, content.text, content.text is mail.text, memo)
    html = None if content.html is None else _join_text(HTML, content.html, content.html is mail.html, memo)
    if mail.attachments:
        body = _join_files(mail.attachments, text, html, identity.stem, memo)
    else:
        body = join_texts(text, html, identity.stem)
    message = _build_head(mail, content.subject, identity, memo) + body
    return BuiltMessage(stuff_dots(message), needs_utf8(mail))


def stuff_dots(message: bytes) -> bytes:
    """RFC 5321 §4.5.2."""
    return message.replace(b"\r\n.", b"\r\n..") if _LEADING_DOT.search(message) else message  # `in` takes twice as long


def needs_utf8(mail: EmailRequested) -> bool:
    """Whether an address of the envelope or of a header lies beyond ASCII (RFC 6531)."""
    for box in (mail.from_, *mail.to, *mail.cc, *mail.bcc, *mail.reply_to):
        if not box.address.isascii():
            return True
    return mail.envelope_from is not None and not mail.envelope_from.isascii()


def _remember(memo: Memo | None, key: object, make: Callable[[], bytes]) -> bytes:
    if memo is None:
        return make()
    found = memo.get(key)
    if found is None:
        found = memo[key] = make()
    return found


def _build_head(mail: EmailRequested, subject: str, identity: Identity, memo: Memo | None) -> bytes:
    sender = _remember(memo, "From", lambda: encode_addresses("From", [mail.from_]))
    lines = [sender, encode_text("Subject", subject)]
    if mail.to:
        lines.append(encode_addresses("To", mail.to))
    if mail.cc:
        lines.append(encode_addresses("Cc", mail.cc))
    if mail.unsubscribe_url:
        lines.append(write_link(mail.unsubscribe_url).encode("ascii"))
    if mail.reply_to or mail.headers:
        more = _remember(memo, ("more", mail.unsubscribe_url is None), lambda: join_more_headers(mail))
        lines += [more] if more else []
    return join_head(lines, format_date(identity.date), identity.message_id)


def join_head(lines: list[bytes], date: str, message_id: str) -> bytes:
    """The message's headers but for those of its body, with the last CRLF. `lines`: what comes first, without CRLF."""
    fixed = f"Date: {date}\r\nMessage-ID: {message_id}\r\nMIME-Version: 1.0\r\n".encode("ascii")
    return b"\r\n".join((*lines, fixed))


def join_more_headers(mail: EmailRequested) -> bytes:
    """Reply-To and what the caller has set, without the last CRLF; empty where there is nothing."""
    lines = [encode_addresses("Reply-To", mail.reply_to)] if mail.reply_to else []
    left_out = _LINK_FIELDS if mail.unsubscribe_url else ()
    given = (encode_text(name, value) for name, value in mail.headers.items() if name.lower() not in left_out)
    return b"\r\n".join((*lines, *given))


def write_link(url: str) -> str:
    """The header fields of RFC 8058, without the last CRLF; of a URL on one line, of printable ASCII."""
    return f"List-Unsubscribe: <{url}>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click"


def format_date(date: datetime) -> str:
    """RFC 5322, in UTC."""
    return _format_second(int(date.timestamp()))


@lru_cache(maxsize=1000)
def _format_second(seconds: int) -> str:
    """Mails of one second share it; writing it takes as long as all other headers."""
    return format_datetime(datetime.fromtimestamp(seconds, UTC))


# --- text and html ---


def _join_text(media_type: bytes, text: str, is_shared: bool, memo: Memo | None) -> bytes:
    """`is_shared`: no template, or none that has anything to fill in."""
    return _remember(memo if is_shared else None, media_type, lambda: join_part(media_type, text))


def join_texts(text: bytes | None, html: bytes | None, stem: str) -> bytes:
    """One part, or both as alternatives, with their MIME headers."""
    if text is not None and html is not None:
        return _join_multipart(b"alternative", stem, (text, html))
    only = (text if html is None else html) or b""
    return only if only.endswith(b"\r\n") else only + b"\r\n"


def _join_multipart(subtype: bytes, boundary: str, parts: Sequence[bytes]) -> bytes:
    mark = b"\r\n--" + boundary.encode("ascii")
    head = b'Content-Type: multipart/%b; boundary="%b"\r\n' % (subtype, mark[4:])
    between = mark + b"\r\n"
    return b"%b%b%b%b--\r\n" % (head, between, between.join(parts), mark)


def join_part(media_type: bytes, text: str) -> bytes:
    """A part with its headers. 7bit or base64, never 8bit: no relay needs 8BITMIME for what we send."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and "\x00" not in text and _fits(text):
        encoding, body = b"7bit", text.encode("ascii").replace(b"\n", b"\r\n")
    else:
        octets = text.encode("utf-8", "replace").replace(b"\n", b"\r\n")  # a bare CR or LF is never sent
        encoding, body = b"base64", base64.encodebytes(octets).replace(b"\n", b"\r\n")
    return head_part(media_type, encoding) + body


def head_part(media_type: bytes, encoding: bytes) -> bytes:
    """The headers of a part with text in it, and the empty line."""
    return b'Content-Type: %b; charset="utf-8"\r\nContent-Transfer-Encoding: %b\r\n\r\n' % (media_type, encoding)


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


def _join_files(
    attachments: Sequence[Attachment], text: bytes | None, html: bytes | None, stem: str, memo: Memo | None
) -> bytes:
    """mixed(alternative(text, related(html, inline files)), other files), without the layers that have one part."""
    inline: list[bytes] = []
    others: list[bytes] = []
    for number, each in enumerate(attachments):
        belongs = each.content_id and html is not None
        disposition = "inline" if belongs else "attachment"
        joined = _remember(memo, number, partial(_join_file, each, disposition))
        (inline if belongs else others).append(joined)
    parts = [] if text is None else [text]
    if html is not None:
        if inline:  # they belong to the HTML part (RFC 2387)
            related = [html, *inline]
            html = _join_multipart(b'related; type="text/html"', f"{stem}_2", related)
        parts.append(html)
    body = _join_multipart(b"alternative", f"{stem}_1", parts) if len(parts) > 1 else parts[0]
    if not others:
        return body
    return _join_multipart(b"mixed", f"{stem}_0", [body, *others])


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
