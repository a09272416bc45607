"""Recipients a line, as JSON. Pure."""

from collections.abc import Iterator
from typing import Any

import orjson

from services.scheduler.batches.splitting import LineSplitter, Piece
from services.scheduler.importing.columns import ADDRESS_NAMES, KNOWN
from services.scheduler.importing.rows import BadRow, Row
from services.scheduler.importing.text_lines import LINE_LIMIT
from shared.whole_numbers import HOLDS_BEYOND, find_rounded

_TAKEN = "must not name what is a field of its own (address, name, timezone, tags), or stands beside it, too"


class JsonReader:
    """An object a line: the fields of a recipient, and attributes within `attributes_field` or beside it."""

    def __init__(self, attributes_field: str) -> None:
        self._attributes_field = attributes_field
        self._lines = LineSplitter(LINE_LIMIT)

    def feed(self, data: bytes) -> Iterator[Row | BadRow]:
        """The rows that end in `data`."""
        return map(self._read, self._lines.feed(data))

    def end(self) -> Iterator[Row | BadRow]:
        """What is left."""
        return map(self._read, self._lines.end())

    def _read(self, piece: Piece) -> Row | BadRow:
        number, line = piece.number, piece.line or 0
        if piece.value is None:
            return BadRow(number, line, None, f"a row may have at most {LINE_LIMIT} bytes")
        try:
            given = orjson.loads(piece.value)
        except orjson.JSONDecodeError as exc:
            return BadRow(number, line, None, f"is not JSON (column {exc.colno}): {exc.msg}")
        if not isinstance(given, dict):
            return BadRow(number, line, None, "must be a JSON object")
        if find_rounded(piece.value, given.values()):
            return BadRow(number, line, self._attributes_field, HOLDS_BEYOND)
        return self._flatten(number, line, given)

    def _flatten(self, number: int, line: int, given: dict[str, Any]) -> Row | BadRow:
        nested = given.pop(self._attributes_field, None)
        fields: dict[str, Any] = {"address" if name in ADDRESS_NAMES else name: given[name] for name in given}
        if len(fields) < len(given):
            return BadRow(number, line, "address", "is given more than once, under several names")
        if nested is None:
            return Row(number, line, fields)
        if not isinstance(nested, dict):
            return BadRow(number, line, self._attributes_field, "must be an object")
        twice = nested.keys() & (fields.keys() | KNOWN)
        if twice:
            return BadRow(number, line, self._attributes_field, _TAKEN)
        return Row(number, line, fields | nested)
