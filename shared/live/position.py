"""Where a listener stands: the next offset of every partition. As text it is the id of an event. Pure.

Partitions are read side by side, so the place of one event says nothing about the others: only all offsets together let
another process, or this one after a restart, go on without missing one. 24 partitions make about 100 characters.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_VERSION = 1
_MOST_PLACES = 10_000
_MOST_BITS = 63


class InvalidPosition(ValueError):
    """No id that was ever given out for these topics."""


@dataclass(frozen=True, slots=True)
class Position:
    """`offsets`: for each topic, in the feed's order, the next offset of each partition. `at_ms`: when that was."""

    at_ms: int
    offsets: tuple[tuple[int, ...], ...]

    def reshape(self, counts: Sequence[int]) -> list[int]:
        """One list for topics of so many partitions; those that came since are read from their beginning.

        Raises InvalidPosition where the topics are others.
        """
        if len(counts) != len(self.offsets):
            raise InvalidPosition
        flat: list[int] = []
        for count, known in zip(counts, self.offsets, strict=True):
            flat += [*known[:count], *([0] * (count - len(known)))]
        return flat


class Cursor:
    """A position that moves, and is written often: only what has moved is encoded anew. `counts`: see Position."""

    def __init__(self, counts: Sequence[int], offsets: Iterable[int], at_ms: int) -> None:
        self.counts = tuple(counts)
        self.at_ms = at_ms
        start, self._starts = 0, {}
        for count in self.counts:
            self._starts[start] = _write_number(count)
            start += count
        self.move_to(offsets)

    def move_to(self, offsets: Iterable[int]) -> None:
        """Stand there, wherever it was."""
        self.offsets = list(offsets)
        self._written = [self._write(place, offset) for place, offset in enumerate(self.offsets)]

    def advance(self, place: int, offset: int, at_ms: int) -> None:
        """The next offset of one place, counted through all topics. It never goes back."""
        if offset > self.offsets[place]:
            self.offsets[place] = offset
            self._written[place] = self._write(place, offset)
        self.at_ms = max(self.at_ms, at_ms)

    def _write(self, place: int, offset: int) -> bytes:
        return self._starts.get(place, b"") + _write_number(offset)

    def raise_to(self, least: Mapping[int, int]) -> "Cursor":
        """A place that is nowhere before `least`, by place."""
        offsets = [max(offset, least.get(place, 0)) for place, offset in enumerate(self.offsets)]
        return Cursor(self.counts, offsets, self.at_ms)

    def reshape(self, counts: Sequence[int]) -> "Cursor":
        """The same place where topics have more partitions now."""
        return Cursor(counts, self.freeze().reshape(counts), self.at_ms)

    def freeze(self) -> Position:
        """The position as it is now."""
        flat = iter(self.offsets)
        return Position(self.at_ms, tuple(tuple(next(flat) for _ in range(count)) for count in self.counts))

    def __str__(self) -> str:
        head = bytes((_VERSION, len(self.counts))) + _write_number(self.at_ms)
        return base64.urlsafe_b64encode(head + b"".join(self._written)).decode().rstrip("=")


def read_position(text: str) -> Position:
    """What `str(cursor)` has written. Raises InvalidPosition."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        numbers = _read_numbers(raw[2:])
        version, topics = raw[0], raw[1]
        if version != _VERSION:
            raise InvalidPosition
        at_ms = next(numbers)
        offsets = tuple(tuple(next(numbers) for _ in range(_bound(next(numbers)))) for _ in range(topics))
    except (binascii.Error, ValueError, IndexError, StopIteration, RuntimeError) as exc:
        raise InvalidPosition from exc
    if next(numbers, None) is not None or not all(offsets):
        raise InvalidPosition
    return Position(at_ms, offsets)


def _bound(count: int) -> int:
    if count > _MOST_PLACES:
        raise InvalidPosition
    return count


def _write_number(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _read_numbers(raw: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in raw:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if number.bit_length() > _MOST_BITS:
                raise InvalidPosition
            yield number
            number = shift = 0
    if shift:
        raise InvalidPosition
