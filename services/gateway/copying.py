"""Rows in PostgreSQL's binary COPY format (its manual, "COPY", "Binary Format"). Pure.

asyncpg writes it, too, but asks a codec for every value of every row. Most values of a group are the same in all its
rows, so here what they look like is kept (docs/performance.md).
"""

import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

Pack = Callable[[Any], bytes]

_HEAD, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_DAY_0, _TIME_0, _MICROSECOND = date(2000, 1, 1), datetime(2000, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_TEXT_OID = 25
_MOST_KEPT = 10_000  # what a value looks like, for each column; then from the beginning
_length, _int, _long = struct.Struct("!i").pack, struct.Struct("!ii").pack, struct.Struct("!iq").pack


def _pack_text(value: str) -> bytes:
    written = value.encode()
    return _length(len(written)) + written


def _pack_texts(values: Sequence[str]) -> bytes:
    if not values:
        return _length(12) + struct.pack("!iii", 0, 0, _TEXT_OID)
    written = struct.pack("!iiiii", 1, 0, _TEXT_OID, len(values), 1) + b"".join(map(_pack_text, values))
    return _length(len(written)) + written


def _pack_uuid(value: UUID) -> bytes:
    return b"\0\0\0\x10" + value.int.to_bytes(16, "big")


def _pack_json(value: Any) -> bytes:
    written = orjson.dumps(value)
    return _length(len(written) + 1) + b"\1" + written


_PACKS: Mapping[type, Pack] = {
    Date: lambda value: _int(4, (value - _DAY_0).days),
    DateTime: lambda value: _long(8, (value - _TIME_0) // _MICROSECOND),
    Integer: lambda value: _int(4, value),
    BigInteger: lambda value: _long(8, value),
    Boolean: lambda value: b"\0\0\0\1" + bytes([value]),
    Text: _pack_text,
    ARRAY: _pack_texts,
    Uuid: _pack_uuid,
    JSONB: _pack_json,
}


class _Known(dict[Any, bytes]):
    """What values look like; asked by `[]`, which is no call where it is known."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack

    def __missing__(self, values: Any) -> bytes:
        if len(self) >= _MOST_KEPT:
            self.clear()
        written = self[values] = self._pack(values)
        return written


class RowPacker:
    """Packs rows of `table`, given as mappings of all its columns.

    `own` are columns that differ from row to row; neighbours that do not are looked up together.
    """

    def __init__(self, table: Table, own: Collection[str]) -> None:
        self.columns = [column.name for column in table.columns]
        self._pieces: list[tuple[Callable[[Any], Any], Pack]] = []
        for is_own, group in groupby(table.columns, key=lambda column: column.name in own):
            columns = list(group)
            if is_own:
                self._pieces += [(itemgetter(column.name), _PACKS[type(column.type)]) for column in columns]
            else:
                self._pieces.append((itemgetter(*[column.name for column in columns]), _keep_known(columns)))
        self._count = struct.pack("!h", len(self.columns))

    def pack(self, rows: Iterable[dict[str, Any]]) -> bytes:
        """All of a COPY's data. Raises struct.error for a number that its column cannot hold."""
        parts = [_HEAD]
        for row in rows:
            parts.append(self._count)
            parts += [_NULL if (value := get(row)) is None else pack(value) for get, pack in self._pieces]
        parts.append(_END)
        return b"".join(parts)


def _keep_known(columns: Sequence[Column[Any]]) -> Pack:
    packs = [_PACKS[type(column.type)] for column in columns]
    if len(packs) == 1:
        return _Known(packs[0]).__getitem__

    def pack_run(values: Sequence[Any]) -> bytes:
        pairs = zip(packs, values, strict=True)
        return b"".join([_NULL if value is None else pack(value) for pack, value in pairs])

    return _Known(pack_run).__getitem__
