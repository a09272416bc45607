"""The body of a message that came by SMTP: one text, one HTML, and files (RFC 2045, 2046, 2183, 2387). Pure.

What an event can say is `mixed(alternative(text, related(html, inline files)), files)`. A message that says the same in
other words is read as that, one that says more is refused.
"""

import io
import mimetypes
from base64 import b64encode
from dataclasses import dataclass, field
from email import errors
from email.generator import BytesGenerator
from email.message import Message
from email.policy import Compat32
from typing import Any

from services.gateway.smtp.fields import Inexpressible, decode_text, decode_words, unfold

_DEPTH = 20
_ENCODINGS = frozenset({"7bit", "8bit", "binary", "quoted-printable", "base64"})
_SIGNED = "signed or encrypted (S/MIME, PGP): Milena writes the message anew, which would break it"
_CONTENT_FIELD_MAX = 8 * 1024  # octets; the library takes time by their square to find parameters
_HARMLESS = (errors.InvalidMultipartContentTransferEncodingDefect,)  # said of a container, it changes nothing


class _Verbatim(Compat32):
    """Writes header fields folded as they came; the library would fold them anew."""

    def fold_binary(self, name: str, value: str) -> bytes:
        """One field with its line ends."""
        return f"{name}: {value}{self.linesep}".encode("ascii", "surrogateescape")


_AS_IT_CAME = _Verbatim(linesep="\r\n")


@dataclass(slots=True)
class Content:
    """What a part holds, all that is in it included; `files` as an event's attachments."""

    text: str | None = None
    html: str | None = None
    files: list[dict[str, Any]] = field(default_factory=list)

    @property
    def has_body(self) -> bool:
        """Whether there is something to read."""
        return self.text is not None or self.html is not None


def read_content(message: Message) -> Content:
    """A message's content. Raises Inexpressible."""
    content = _read(message, 0)
    if not content.has_body:
        if not content.files:
            raise Inexpressible("there is nothing in the message")
        content.text = ""  # what a scanner sends: a file and no word
    for number, each in enumerate(content.files, 1):
        each["filename"] = each["filename"] or _name_file(each["content_type"], number)
    return content


def _read(part: Message, depth: int) -> Content:
    if depth > _DEPTH:
        raise Inexpressible("parts are nested too deeply")
    for name, value in part.raw_items():
        if len(value) > _CONTENT_FIELD_MAX and name.lower().startswith("content-"):
            raise Inexpressible(f"the header {name} is too long")
    kind = part.get_content_type()
    if kind in ("multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"):
        raise Inexpressible(f"{kind}: {_SIGNED}", "5.6.3")
    _refuse_defects(part)
    if not kind.startswith("multipart/"):
        return _read_leaf(part, kind)
    children = part.get_payload()
    assert isinstance(children, list)
    contents = [_read(child, depth + 1) for child in children if isinstance(child, Message)]
    if kind == "multipart/alternative":
        return _join_alternatives(children, contents)
    if kind in ("multipart/mixed", "multipart/related"):
        return _join(contents)
    raise Inexpressible(f"{kind} cannot be carried; give multipart/mixed, /alternative or /related", "5.6.1")


def _refuse_defects(part: Message) -> None:
    """What a parser had to guess is not known to be what was meant."""
    for defect in part.defects:
        if not isinstance(defect, _HARMLESS):
            raise Inexpressible(f"the message is broken: {type(defect).__name__.removesuffix('Defect')}")


def _join(contents: list[Content]) -> Content:
    """One of them has the body, the others are files."""
    whole = Content()
    for each in contents:
        if each.has_body and whole.has_body:
            why = "there are several texts outside multipart/alternative; give the others as files, with a file name"
            raise Inexpressible(why, "5.6.1")
        if each.has_body:
            whole.text, whole.html = each.text, each.html
        whole.files += each.files
    return whole


def _join_alternatives(children: list[Any], contents: list[Content]) -> Content:
    whole = Content()
    for child, each in zip(children, contents, strict=True):
        if not each.has_body:
            why = f"an alternative of type {child.get_content_type()} cannot be carried; give it as an attachment"
            raise Inexpressible(why, "5.6.1")
        if None not in (each.text, whole.text) or None not in (each.html, whole.html):
            raise Inexpressible("there are several alternatives of one type", "5.6.1")
        whole.text = whole.text if each.text is None else each.text
        whole.html = whole.html if each.html is None else each.html
        whole.files += each.files
    return whole


def _read_leaf(part: Message, kind: str) -> Content:
    name = _read_name(part)
    encoding = str(part.get("content-transfer-encoding", "7bit")).strip().lower()
    if encoding not in _ENCODINGS:
        raise Inexpressible("a part has a Content-Transfer-Encoding that is not known", "5.6.1")
    if kind.startswith("message/"):
        if kind != "message/rfc822" or encoding in ("quoted-printable", "base64"):
            raise Inexpressible(f"{kind} cannot be carried; give it as application/octet-stream", "5.6.1")
        return Content(files=[_describe(part, kind, name or "message.eml", _copy_message(part))])
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)
    _refuse_defects(part)  # those of base64 are found only now
    if kind in ("text/plain", "text/html") and not name and part.get_content_disposition() != "attachment":
        text = _decode_body(part, octets).replace("\r\n", "\n")
        return Content(text=text) if kind == "text/plain" else Content(html=text)
    return Content(files=[_describe(part, kind, name, octets)])


def _decode_body(part: Message, octets: bytes) -> str:
    charset = part.get_content_charset() or "us-ascii"
    if charset in ("us-ascii", "ascii"):
        charset = "utf-8"  # what is more than ASCII says so too rarely
    try:
        return decode_text(octets, charset)
    except (UnicodeError, LookupError):
        raise Inexpressible("a text is not in the charset that its Content-Type names", "5.6.1") from None


def _read_name(part: Message) -> str:
    """A file's name, as RFC 2231 or, against it and often, RFC 2047 writes it."""
    given = part.get_param("filename", None, "content-disposition")
    if given is None:
        given = part.get_param("name", None, "content-type")
    if given is None:
        return ""
    if not isinstance(given, tuple):
        return decode_words("Content-Disposition", unfold("Content-Disposition", given))
    charset, _, value = given
    try:
        return decode_text(value.encode("latin-1"), charset or "us-ascii")
    except (UnicodeError, LookupError):
        raise Inexpressible("a file name is not in the charset that it names") from None


def _describe(part: Message, kind: str, name: str, octets: bytes) -> dict[str, Any]:
    described: dict[str, Any] = {"filename": name, "content_type": kind, "content": b64encode(octets).decode("ascii")}
    given = unfold("Content-ID", str(part.get("content-id", "")))
    if given:
        described["content_id"] = given.removeprefix("<").removesuffix(">")
    return described


def _copy_message(part: Message) -> bytes:
    """A message within the message, byte for byte."""
    within = part.get_payload(0)
    assert isinstance(within, Message)
    written = io.BytesIO()
    BytesGenerator(written, mangle_from_=False, policy=_AS_IT_CAME).flatten(within)
    return written.getvalue()


def _name_file(content_type: str, number: int) -> str:
    return f"attachment-{number}{mimetypes.guess_extension(content_type) or '.bin'}"
