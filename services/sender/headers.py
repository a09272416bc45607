"""Header fields as bytes: folded (RFC 5322 §2.2.3), and in encoded words where they go beyond ASCII (RFC 2047).

Our own, because the standard library's folding loses characters of long names and of some Unicode spaces, and takes
twenty times as long; a subject in any language but English would pay for it.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from shared.addresses import Mailbox

LINE_MAX = 990  # octets; RFC 5321 allows 998 without CRLF
_FOLD_AT = 76  # RFC 2047 §2: the most for a line with an encoded word
_WORD_OCTETS = 45  # 60 characters of base64, 72 with the frame
_ATOMS = re.compile(r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*)?")
_PLAIN_PARAMETER = re.compile(r"[A-Za-z0-9!#$&+.^_`{}~() @,-]{1,60}")
_SPACE_BETWEEN_WORDS = re.compile(r"(?<=[!-~]) (?=[!-~])")


def encode_text(name: str, value: str) -> bytes:
    """`name: value` without its CRLF. The value comes back unchanged from whoever decodes RFC 2047."""
    if _is_plain(value):
        if len(name) + len(value) < _FOLD_AT - 2:
            return f"{name}: {value}".encode("ascii")
        words = _SPACE_BETWEEN_WORDS.split(value)
        if len(name) + max(map(len, words)) <= LINE_MAX:
            return _fold(f"{name}:", words).encode("ascii")
    return _fold(f"{name}:", _encode_words(value)).encode("ascii")


def encode_addresses(name: str, boxes: Sequence[Mailbox]) -> bytes:
    """`name: Ann <ann@x.org>, …` without its CRLF; UTF-8 where an address is beyond ASCII (RFC 6532)."""
    if len(boxes) == 1:
        box = boxes[0]
        if not box.name and len(name) + len(box.address) < _FOLD_AT - 2:
            return f"{name}: {box.address}".encode()
        line = f"{name}: {box.name} <{box.address}>" if box.name else f"{name}: {box.address}"
        if len(line) <= _FOLD_AT and "=?" not in box.name and _ATOMS.fullmatch(box.name):
            return line.encode()
    last = len(boxes) - 1
    pieces: list[str] = []
    for index, box in enumerate(boxes):
        comma = "," if index < last else ""
        if box.name:
            pieces += (*_encode_phrase(box.name), f"<{box.address}>{comma}")
        else:
            pieces.append(box.address + comma)
    return _fold(f"{name}:", pieces).encode()


def encode_parameter(line: str, name: str, value: str) -> bytes:
    """`line; name="value"` without its CRLF; as RFC 2231 has it where the value is long or beyond plain ASCII."""
    if _PLAIN_PARAMETER.fullmatch(value) and value == value.strip():
        return f'{line};\r\n {name}="{value}"'.encode("ascii")
    quoted = quote(value.encode("utf-8", "replace"), safe="")
    if len(quoted) < LINE_MAX - len(name) - 20:  # in one piece, which more mail programs understand
        return f"{line};\r\n {name}*=utf-8''{quoted}".encode("ascii")
    pieces = ("utf-8''", *(quote(chunk, safe="") for chunk in _chunk(value, 20)))
    return ";\r\n".join((line, *(f" {name}*{n}*={piece}" for n, piece in enumerate(pieces)))).encode("ascii")


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable() and "=?" not in value and value == value.strip()


def _encode_phrase(name: str) -> list[str]:
    """A display name as pieces between which a line may be folded."""
    if "=?" not in name and len(name) < LINE_MAX // 2 and name.isascii() and name.isprintable():
        if _ATOMS.fullmatch(name):
            return name.split(" ")
        return ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"']
    return _encode_words(name)


def _encode_words(text: str) -> list[str]:
    """Encoded words of whole characters each (RFC 2047 §5); a lone surrogate becomes `?`."""
    return [f"=?utf-8?b?{base64.b64encode(chunk).decode('ascii')}?=" for chunk in _chunk(text, _WORD_OCTETS)]


def _chunk(text: str, size: int) -> Iterable[bytes]:
    """UTF-8 in pieces of at most `size` octets."""
    octets = text.encode("utf-8", "replace")
    start = 0
    while start < len(octets):
        end = min(start + size, len(octets))
        while end < len(octets) and octets[end] & 0xC0 == 0x80:  # never within a character
            end -= 1
        yield octets[start:end]
        start = end


def _fold(line: str, pieces: Iterable[str]) -> str:
    """Pieces joined by a space, or by a line's end and a space where the line would grow too long."""
    lines: list[str] = []
    first = True
    for piece in pieces:
        if not first and len(line) + 1 + len(piece) > _FOLD_AT:
            lines.append(line)
            line = ""
        line = f"{line} {piece}"
        first = False
    lines.append(line)
    return "\r\n".join(lines)
