"""Read a caught mail for showing it. It may be hostile: nothing here raises because of what is in it."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message

# compat32 on purpose: the newer policies make objects of every header, and raise on what they cannot parse.
_CID = re.compile(r"""cid:([^"'\s)>]+)""", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """One attachment or inline file."""

    filename: str
    content_type: str
    content: bytes
    content_id: str | None


@dataclass(frozen=True)
class ReadMail:
    """A mail, taken apart; texts are decoded as well as they can be."""

    subject: str
    sender: str
    to: str
    headers: tuple[tuple[str, str], ...]
    text: str | None = None
    html: str | None = None
    parts: tuple[Part, ...] = ()
    problem: str | None = None


def read_headers(content: bytes) -> ReadMail:
    """Read the header block only, for lists."""
    head, _, _ = content.partition(b"\r\n\r\n")
    return _read_head(message_from_bytes(head + b"\r\n\r\n"))


def read_mail(content: bytes) -> ReadMail:
    """Take a whole mail apart."""
    try:
        message = message_from_bytes(content)
        leaves = list(_walk_leaves(message))
    except (RecursionError, ValueError, LookupError, TypeError, AttributeError, IndexError) as exc:
        head = read_headers(content)
        return ReadMail(head.subject, head.sender, head.to, head.headers, problem=f"{type(exc).__name__} in its parts")
    head = _read_head(message)
    text = next((leaf for leaf in leaves if _is_body(leaf, "text/plain")), None)
    html = next((leaf for leaf in leaves if _is_body(leaf, "text/html")), None)
    files = [leaf for leaf in leaves if leaf is not text and leaf is not html]
    return ReadMail(
        head.subject,
        head.sender,
        head.to,
        head.headers,
        text=_decode(text) if text is not None else None,
        html=_decode(html) if html is not None else None,
        parts=tuple(_read_part(leaf, number) for number, leaf in enumerate(files)),
    )


def inline_images(mail: ReadMail) -> str:
    """Give the HTML with each ``cid:`` image of the mail itself put in place as a ``data:`` URL."""
    images = {
        part.content_id: part for part in mail.parts if part.content_id and part.content_type.startswith("image/")
    }

    def fill(found: re.Match[str]) -> str:
        part = images.get(found[1])
        if part is None:
            return found[0]
        return f"data:{part.content_type};base64,{base64.b64encode(part.content).decode()}"

    return _CID.sub(fill, mail.html or "")


def _walk_leaves(message: Message) -> Iterator[Message]:
    for part in message.walk():
        if not part.is_multipart():
            yield part


def _is_body(part: Message, content_type: str) -> bool:
    return part.get_content_type() == content_type and part.get_content_disposition() != "attachment"


def _decode(part: Message) -> str:
    content = _payload(part)
    try:
        return content.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError):
        return content.decode("latin-1")


def _payload(part: Message) -> bytes:
    try:
        payload = part.get_payload(decode=True)
    except (ValueError, LookupError, TypeError):
        return b""
    return payload if isinstance(payload, bytes) else b""


def _read_part(part: Message, number: int) -> Part:
    try:
        filename = part.get_filename() or f"part-{number}"
    except (ValueError, LookupError, TypeError):
        filename = f"part-{number}"
    content_id = str(part.get("Content-ID") or "").strip().strip("<>") or None
    kind = part.get_content_type()
    safe = kind if re.fullmatch(r"[\w.+-]+/[\w.+-]+", kind) else "application/octet-stream"
    return Part(filename, safe, _payload(part), content_id)


def _read_head(message: Message) -> ReadMail:
    headers = tuple((str(name), _decode_header(value)) for name, value in message.raw_items())
    first = {name.lower(): value for name, value in reversed(headers)}
    return ReadMail(first.get("subject", ""), first.get("from", ""), first.get("to", ""), headers)


def _decode_header(value: object) -> str:
    raw = re.sub(r"\r?\n[ \t]*", " ", str(value))
    unescaped = raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        return str(make_header(decode_header(unescaped)))
    except (ValueError, LookupError, TypeError):
        return unescaped
