"""An upload taken apart into its items as it comes: lines of JSON, or the elements of one JSON array. Pure.

What is held is at most one item. One that is longer than the limit is passed over and told as such; where an array is
no array, nobody can say where its items are, and the upload as a whole is refused.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

_MARK = b"\xef\xbb\xbf"  # a byte order mark in UTF-8: editors on Windows write one
_SPACE = b" \t\r\n"
# A string with its end, or as far as it has come; possessive, so that no text makes the search go back.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("?)|[\[\]{},]', re.DOTALL)
_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+("?)', re.DOTALL)
# All that stands in an element up to its next bracket, or a string that has no end yet.
_PLAIN = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+', re.DOTALL)


class NoList(Exception):
    """The upload is no JSON array; the message says what is wrong, and where."""


class Piece(NamedTuple):
    """One item as it was sent. `line` is where it begins, of a file of lines; `value` is None where it is too long."""

    number: int
    line: int | None
    value: bytes | None
    size: int


class Splitter(Protocol):
    """Takes an upload apart."""

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The items that end in `data`, the next part of the upload. Raises NoList."""

    def end(self) -> Iterator[Piece]:
        """What is left at the upload's end. Raises NoList."""


class LineSplitter:
    """Newline-delimited JSON: an item a line, empty lines are passed over. `limit` in bytes of a line."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: list[bytes] = []
        self._size = 0
        self._line = 0
        self._number = 0

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The lines that end in `data`."""
        first, *others = data.split(b"\n")
        self._hold(first)
        for each in others:
            yield from self._finish()
            self._hold(each)

    def end(self) -> Iterator[Piece]:
        """A last line need not have an end."""
        yield from self._finish()

    def _hold(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            self._held.clear()
        elif part:
            self._held.append(part)

    def _finish(self) -> Iterator[Piece]:
        self._line += 1
        size, self._size = self._size, 0
        line, is_whole = b"".join(self._held), size <= self._limit
        self._held.clear()
        if self._line == 1:
            line = line.removeprefix(_MARK)
        line = line.strip(_SPACE)
        if line or not is_whole:
            self._number += 1
            yield Piece(self._number, self._line, line if is_whole else None, size)


class ArraySplitter:
    """One JSON array; what an element holds is not looked at. `limit` in bytes of an element."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._size = 0
        self._number = 0
        self._depth = 0  # 1: in the array, above: in something of an element's
        self._is_open = self._is_over = self._in_string = self._skips_one = False
        self._before = 0  # bytes of the upload before the part at hand
        self._head = b""  # the upload's first bytes, while they may be a mark that has not come whole

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The elements that end in `data`. Raises NoList."""
        if not self._before:
            data, self._head = self._head + data, b""
            if len(data) < len(_MARK) and _MARK.startswith(data):
                self._head = data
                return
        start = where = 0 if self._is_open else self._open(data)
        while self._is_open and not self._is_over:
            if self._in_string:
                found = _REST_OF_STRING.match(data, where + self._skips_one)
            else:
                plain = _PLAIN.match(data, where) if self._depth > 1 else None
                found = _TOKEN.search(data, plain.end() if plain else where)
            if found is None:
                self._hold(data[start:])
                break
            where, mark = found.end(), data[found.start() : found.start() + 1]
            if self._in_string or mark == b'"':
                self._in_string = found[1] == b""
                self._skips_one = self._in_string and where < len(
                    data
                )  # a backslash, and what it stands before is to come
                if self._in_string:
                    self._hold(data[start:])
                    break
            elif self._ends_element(mark, where):
                self._hold(data[start : found.start()])
                yield from self._finish(where, may_be_empty=self._is_over and not self._number)
                start = where
        if self._is_over and data[where:].strip(_SPACE):
            raise NoList(f"something follows the array, at byte {self._before + where}")
        self._before += len(data)

    def end(self) -> Iterator[Piece]:
        """Nothing is left. Raises NoList where the array has no end."""
        if not self._is_over:
            raise NoList("it has no end" if self._is_open else "it is empty")
        yield from ()

    def _open(self, data: bytes) -> int:
        rest = (data if self._before else data.removeprefix(_MARK)).lstrip(_SPACE)
        if rest[:1] not in (b"[", b""):
            raise NoList("it does not begin with [")
        self._is_open = rest != b""
        self._depth = 1
        return len(data) - len(rest) + self._is_open

    def _ends_element(self, mark: bytes, where: int) -> bool:
        if mark in b"[{":
            self._depth += 1
        elif mark != b"," and self._depth > 1:
            self._depth -= 1
        elif self._depth == 1:
            self._is_over = mark == b"]"
            if mark == b"}":
                raise NoList(f"a brace too many, at byte {self._before + where}")
            return True
        return False

    def _hold(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            self._held.clear()
        else:
            self._held += part

    def _finish(self, where: int, *, may_be_empty: bool) -> Iterator[Piece]:
        size, self._size = self._size, 0
        value, is_whole = bytes(self._held).strip(_SPACE), size <= self._limit
        self._held.clear()
        if is_whole and not value:
            if not may_be_empty:
                raise NoList(f"an element is missing, at byte {self._before + where}")
            return
        self._number += 1
        yield Piece(self._number, None, value if is_whole else None, size)
