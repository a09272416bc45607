"""Record batches as aiokafka's consumers are to read them: in bounded memory, and never failing for their content (R8).

aiokafka unpacks a batch whole, and raises for good on what it cannot read, such as a header name that is not UTF-8:
the partition stands still behind it. `guard_batches` puts `GuardedRecords` in the place of the class its fetcher
uses, for every consumer of the process, Faust's too. An ordinary batch is still read by aiokafka; one that may unpack
far, or that aiokafka fails on, is read here, record by record. A record nobody should hold comes as a RefusedValue,
which `open_record` turns into UnreadableEvent; its neighbours come as they are.
tests/contract/test_batches.py holds what this relies on.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import structlog
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords

from shared.events import RefusedValue
from shared.record_fields import BrokenRecord, Fields, PieceReader, read_fields, read_position
from shared.topics import EVENT_HEADROOM
from shared.unpacking import CannotUnpack, may_exceed, unpack

log = structlog.get_logger(__name__)

ORDINARY_BYTES = 4 * 1024 * 1024  # unpacked, per batch: aiokafka holds one for each partition
THROWN_AWAY_BYTES = 64 * 1024 * 1024  # unpacked for nothing, per batch: 0.2 s with gzip; what lies behind is refused
_HEADER = struct.Struct(">qiibIhiqqqhii")
_MAGIC_AT = 16


def guard_batches(event_limit: int) -> None:
    """Bound what every aiokafka consumer of this process unpacks; of several limits the largest counts."""
    known = fetcher.MemoryRecords
    limit = event_limit + EVENT_HEADROOM
    if isinstance(known, partial):
        limit = max(limit, known.keywords["limit"])
    fetcher.MemoryRecords = partial(GuardedRecords, limit=limit)


class Batch(Protocol):
    """What the fetcher asks of a batch."""

    base_offset: int
    next_offset: int
    producer_id: int | None
    is_transactional: bool
    is_control_batch: bool

    def validate_crc(self) -> bool:
        """Whether the bytes are as they were written."""

    def __iter__(self) -> Iterator[Any]: ...


@dataclass(slots=True)
class GuardedRecord:
    """A record, as the fetcher reads it."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    checksum: None = None


class GuardedRecords:
    """The batches of one partition in one answer of the broker. `limit`: bytes of a record worth holding."""

    def __init__(self, data: bytes, *, limit: int) -> None:
        self._inner = MemoryRecords(data)
        self._data = memoryview(data)
        self._position = 0
        self._limit = limit

    def size_in_bytes(self) -> int:
        """Of the whole answer."""
        return self._inner.size_in_bytes()  # type: ignore[no-any-return]

    def has_next(self) -> bool:
        """Whether a whole batch follows."""
        return self._inner.has_next()  # type: ignore[no-any-return]

    def next_batch(self) -> Any:
        """The next batch; control batches and those of Kafka before 0.11 as aiokafka has them."""
        batch = self._inner.next_batch()
        start = self._position
        if batch is None:
            return None
        self._position += 12 + int(struct.unpack_from(">i", self._data, start + 8)[0])
        if self._data[start + _MAGIC_AT] < 2 or batch.is_control_batch:
            return batch
        return GuardedBatch(batch, self._data[start : self._position], self._limit)


class GuardedBatch:
    """A batch of records that is read by aiokafka where that is safe, and here where it is not."""

    is_control_batch = False

    def __init__(self, inner: Batch, raw: memoryview, limit: int) -> None:
        self.base_offset = inner.base_offset
        self.next_offset = inner.next_offset
        self.producer_id = inner.producer_id
        self.is_transactional = inner.is_transactional
        self.validate_crc = inner.validate_crc
        self._inner = inner
        self._raw = raw
        self._limit = limit

    def __iter__(self) -> Iterator[Any]:
        given = 0
        codec = self._raw[22] & 0x07
        if not codec or not may_exceed(codec, self._raw[_HEADER.size :], ORDINARY_BYTES):
            try:
                for record in self._inner:
                    yield record
                    given += 1
            except Exception as exc:  # a record must not stop its partition
                log.warning("batch read with care", offset=self.base_offset + given, error=type(exc).__name__)
            else:
                return
        yield from _CarefulBatch(self._raw, self._limit).read(given)


class _CarefulBatch:
    """Reads one batch in pieces. Every record it says it has is given, with its content or with a refusal."""

    def __init__(self, raw: memoryview, limit: int) -> None:
        head = _HEADER.unpack_from(raw)
        self._attributes, self._first_time, self._last_time = head[5], head[7], head[8]
        self._base_offset, self._last_delta, self._count = head[0], head[6], head[12]
        self._stream = PieceReader(unpack(self._attributes & 0x07, raw[_HEADER.size :]))
        self._limit = limit
        self._thrown_away = 0

    def read(self, given: int) -> Iterator[GuardedRecord]:
        """All records but the first `given`."""
        done, delta = 0, -1
        try:
            while done < self._count:
                record = self._read_one(delta + 1)
                delta = record.offset - self._base_offset
                done += 1
                if done > given:
                    yield record
        except (CannotUnpack, BrokenRecord) as exc:
            # Nobody can tell where the next record begins.
            delta = max(delta, given - 1)
            for _ in range(max(done, given), self._count):
                delta = min(delta + 1, self._last_delta)
                yield self._refuse(delta, self._first_time, f"the record cannot be read: {exc}")

    def _read_one(self, expected: int) -> GuardedRecord:
        """The next record; `expected` is its offset delta where it does not tell one. Raises what ends the batch."""
        if self._thrown_away > THROWN_AWAY_BYTES:
            raise CannotUnpack(f"it lies in one batch behind more than {THROWN_AWAY_BYTES} bytes that nobody may hold")
        length = self._stream.take_varint()
        if length > self._limit:
            return self._pass_over(length)
        try:
            fields = read_fields(self._stream.take(length))
        except BrokenRecord as exc:
            return self._refuse(expected, self._first_time, f"the record cannot be read: {exc}")
        return self._build(fields)

    def _pass_over(self, length: int) -> GuardedRecord:
        head = self._stream.take(16)
        time_delta, delta = read_position(head)
        self._thrown_away += length
        if self._thrown_away <= THROWN_AWAY_BYTES:
            self._stream.skip(length - len(head))
        why = f"the record unpacks to {length} bytes, the limit is {self._limit}"
        return self._refuse(delta, self._first_time + time_delta, why)

    def _build(self, fields: Fields) -> GuardedRecord:
        record = self._refuse(fields.offset_delta, self._first_time + fields.time_delta, "")
        record.key, record.value, record.headers = fields.key, fields.value, fields.headers
        return record

    def _refuse(self, delta: int, timestamp: int, why: str) -> GuardedRecord:
        by_broker = self._attributes & 0x08
        return GuardedRecord(
            self._base_offset + delta,
            self._last_time if by_broker else timestamp,
            1 if by_broker else 0,
            None,
            RefusedValue(why),
        )
