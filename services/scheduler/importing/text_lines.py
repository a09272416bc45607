"""Lines of text out of the bytes of a file, whatever they are. Pure.

What no decoder reads does not end a file: it becomes lone surrogates (PEP 383), by which its row is known as bad.
"""

import codecs
import re
from collections.abc import Sequence

from services.scheduler.importing.rows import UnreadableFile

LINE_LIMIT = 64 * 1024
"""Bytes of a line, and of all the lines of one row; about ten thousand words."""

_MARK = codecs.BOM_UTF8
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PRINTABLE = bytes(range(32, 127))
_ESCAPE = rb"\u0041"  # Python's own ways of writing text are no charsets
_UNFIT = re.compile("[\0\ud800-\udfff]")
_SHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


class TextLines:
    """Takes bytes and gives whole lines, without their ends. It holds one line that has no end yet."""

    def __init__(self, encoding: str) -> None:
        """Raises UnreadableFile for an encoding nobody knows, or in which a line end is not one byte."""
        self._encoding = _check_encoding(encoding)
        self._wide: codecs.IncrementalDecoder | None = None
        self._head: bytes | None = b""  # the first bytes, until they can be told
        self._held: list[bytes] = []
        self._size = 0
        self.is_suspect = False
        """Whether something came that is no text; from then on every row is to be looked at (`is_text`)."""

    def feed(self, data: bytes) -> Sequence[str | None]:
        """The lines that end in `data`; None is one that is too long. Raises UnreadableFile."""
        if self._head is not None:
            self._head += data
            if len(self._head) < len(_SHEETS[0]):
                return ()
            data, self._head = self._begin(self._head), None
        return self._split(self._narrow(data, final=False))

    def end(self) -> Sequence[str | None]:
        """A last line need not have an end. Raises UnreadableFile."""
        head, self._head = self._head, None
        data = self._narrow(self._begin(head) if head else b"", final=True)
        lines = list(self._split(data))
        if self._size:
            lines += self._split(b"\n")
        return lines

    def _begin(self, head: bytes) -> bytes:
        """The first bytes without a mark. Raises UnreadableFile for what is no text at all."""
        if head.startswith(_SHEETS):
            raise UnreadableFile("it is a spreadsheet: save it as CSV (UTF-8), and send that")
        if head.startswith(_WIDE) or self._encoding.startswith("utf-16"):
            encoding = "utf-16" if head.startswith(_WIDE) else self._encoding
            self._wide, self._encoding = codecs.getincrementaldecoder(encoding)(), "utf-8"
        return head.removeprefix(_MARK)

    def _narrow(self, data: bytes, *, final: bool) -> bytes:
        if self._wide is None:
            return data
        try:
            return self._wide.decode(data, final).encode("utf-8", "surrogatepass")
        except UnicodeError:  # also where a file said to be UTF-16 has no mark to tell which one it is
            raise UnreadableFile("it is no UTF-16 with a byte order mark, or not to its end; send UTF-8") from None

    def _split(self, data: bytes) -> Sequence[str | None]:
        end = data.rfind(b"\n") + 1
        if not end:
            self._hold(data)
            return ()
        block = b"".join([*self._held, data[:end]])
        is_whole = self._size <= LINE_LIMIT
        self._held.clear()
        self._size = 0
        self._hold(data[end:])
        lines = self._decode(block).split("\n")
        lines.pop()
        checked = [line if len(line) <= LINE_LIMIT else None for line in lines]
        if not is_whole:
            checked[0] = None
        return checked

    def _hold(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > LINE_LIMIT:
            self._held.clear()
        elif part:
            self._held.append(part)

    def _decode(self, block: bytes) -> str:
        try:
            text = block.decode(self._encoding)
        except UnicodeError:
            text = self._decode_roughly(block)
            self.is_suspect = True
        self.is_suspect = self.is_suspect or "\0" in text
        return text

    def _decode_roughly(self, block: bytes) -> str:
        try:
            return block.decode(self._encoding, "surrogateescape")
        except UnicodeError:  # of an encoding in which a byte of ASCII may be the wrong one: ISO-2022
            raise UnreadableFile("it is not what its charset says; send UTF-8, or say which charset it is") from None


def is_text(line: str) -> bool:
    """Whether all of it was read; also NUL, which no database keeps in a text, is not."""
    return _UNFIT.search(line) is None


def _check_encoding(name: str) -> str:
    try:
        known = codecs.lookup(name).name
        if known.startswith("utf-16"):
            return known
        if _ESCAPE.decode(known) == _ESCAPE.decode("ascii") and _PRINTABLE.decode(known) == _PRINTABLE.decode("ascii"):
            return known
    except (LookupError, ValueError, AssertionError):
        pass
    raise UnreadableFile("its charset is not known here: send UTF-8, or say charset=utf-16, windows-1252, …")
