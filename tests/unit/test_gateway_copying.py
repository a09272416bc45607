"""What a row looks like to PostgreSQL is what asyncpg would have made of it, whatever is kept of rows before it."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Column, MetaData, Table

from services.gateway.copying import RowPacker
from services.gateway.tables import emails

HEAD = 11 + 8


def pack(*rows: dict[str, Any], names: tuple[str, ...], own: tuple[str, ...] = ()) -> list[bytes | None]:
    """The fields of all rows, one after the other."""
    table = Table("t", MetaData(), *[Column(name, emails.c[name].type) for name in names])
    data, fields, place = RowPacker(table, own).pack(rows), list[bytes | None](), HEAD
    while (count := int.from_bytes(data[place : place + 2], "big", signed=True)) != -1:
        assert count == len(names)
        place += 2
        for _ in names:
            length = int.from_bytes(data[place : place + 4], "big", signed=True)
            fields.append(data[place + 4 : place + 4 + length] if length >= 0 else None)
            place += 4 + max(length, 0)
    assert place + 2 == len(data)
    return fields


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("bucket", date(2000, 1, 3), b"\0\0\0\2"),
        ("bucket", date(1999, 12, 31), b"\xff\xff\xff\xff"),
        ("id", UUID(int=5), bytes(15) + b"\5"),
        ("attempts", 258, b"\0\0\1\2"),
        ("offset", 258, b"\0\0\0\0\0\0\1\2"),
        ("held", True, b"\1"),
        ("held", False, b"\0"),
        ("subject", "Grüße", "Grüße".encode()),
        ("subject", "", b""),
        ("metadata", {"a": [1, None]}, b'\1{"a":[1,null]}'),
        ("created_at", datetime(2000, 1, 1, 0, 0, 1, 5, UTC), (1_000_005).to_bytes(8, "big")),
        ("tags", (), bytes(8) + b"\0\0\0\x19"),
        ("tags", ("a",), b"\0\0\0\1\0\0\0\0\0\0\0\x19\0\0\0\1\0\0\0\1\0\0\0\1a"),
        ("tags", None, None),
    ],
)
def test_a_value_is_written_as_its_column_is_read(name: str, value: Any, written: bytes | None) -> None:
    own = () if name in ("bucket", "tags", "held") else (name,)
    assert pack({name: value}, {name: value}, names=(name,), own=own) == [written, written]


def test_neighbours_that_repeat_are_known_together_and_what_changes_is_not_mixed_up() -> None:
    names = ("account", "status", "id", "held", "attempts")
    rows: list[dict[str, Any]] = [
        {"account": account, "status": "sent", "id": UUID(int=number), "held": bool(number % 2), "attempts": number}
        for number, account in enumerate(("a", "b", "a", "b"))
    ]
    fields = pack(*rows, names=names, own=("id",))
    read = [fields[start : start + 5] for start in range(0, 20, 5)]
    for row, found in zip(rows, read, strict=True):
        number = row["attempts"]
        own = [number.to_bytes(16, "big"), bytes([number % 2]), number.to_bytes(4, "big")]
        assert found == [row["account"].encode(), b"sent", *own]
