"""Records of Kafka's format version 2, as they lie in a batch: zigzag varints and what stands between them."""

from collections.abc import Iterator
from dataclasses import dataclass

_LONGEST = 10  # bytes of a varint of 64 bits


class BrokenRecord(Exception):
    """The bytes are no record."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What one record says. A header's name is read as UTF-8, what is none of it replaced."""

    time_delta: int
    offset_delta: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class PieceReader:
    """Reads on through pieces without ever joining more of them than asked for."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self._position = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes. Raises BrokenRecord where there are fewer."""
        if size < 0:
            raise BrokenRecord("a length below zero")
        parts = []
        while size:
            part = self._next(size)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        """Pass over the next `size` bytes. Raises BrokenRecord where there are fewer."""
        while size:
            size -= len(self._next(size))

    def take_varint(self) -> int:
        """The number that stands next. Raises BrokenRecord."""
        taken = b""
        while not taken or taken[-1] & 0x80:
            if len(taken) == _LONGEST:
                raise BrokenRecord("a number without end")
            taken += self.take(1)
        return _read_varint(taken, 0)[0]

    def _next(self, most: int) -> memoryview:
        while self._position == len(self._piece):
            piece = next(self._pieces, None)
            if piece is None:
                raise BrokenRecord("the batch ends too early")
            self._piece, self._position = memoryview(piece), 0
        part = self._piece[self._position : self._position + most]
        self._position += len(part)
        return part


def read_position(body: bytes) -> tuple[int, int]:
    """Time delta (ms) and offset delta of a record whose first 16 bytes are given. Raises BrokenRecord."""
    time_delta, position = _read_varint(body, 1)  # behind the attributes
    return time_delta, _read_varint(body, position)[0]


def read_fields(body: bytes) -> Fields:
    """A record behind its length. Raises BrokenRecord."""
    time_delta, position = _read_varint(body, 1)
    offset_delta, position = _read_varint(body, position)
    key, position = _read_bytes(body, position)
    value, position = _read_bytes(body, position)
    count, position = _read_varint(body, position)
    headers = []
    for _ in range(count):
        name, position = _read_bytes(body, position)
        content, position = _read_bytes(body, position)
        headers.append(((name or b"").decode("utf-8", "replace"), content))
    if position != len(body):
        raise BrokenRecord("its parts do not add up to its length")
    return Fields(time_delta, offset_delta, key, value, headers)


def _read_bytes(body: bytes, position: int) -> tuple[bytes | None, int]:
    size, position = _read_varint(body, position)
    if size < 0:
        return None, position
    if position + size > len(body):
        raise BrokenRecord("a part is longer than its record")
    return body[position : position + size], position + size


def _read_varint(body: bytes, position: int) -> tuple[int, int]:
    """The number at `position` and where it ends (zigzag, least significant seven bits first)."""
    value = shift = 0
    while True:
        if position >= len(body) or shift > 63:
            raise BrokenRecord("a number without end")
        byte = body[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
