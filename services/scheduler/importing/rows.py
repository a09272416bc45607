"""What readers of files give, row by row."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol


class UnreadableFile(Exception):
    """The file as a whole cannot be read, or not from here on. The message says what is wrong and where, and never
    repeats what stands there."""


class Row(NamedTuple):
    """What one row says, not judged yet. `number` counts rows from 1 on, `line` is where it begins in the file.

    `fields` by name: known ones by `address`, `name`, `timezone`, `tags`; any other is an attribute. Of CSV all values
    are text, and None where a cell is empty. What a row does not name is not in it.
    """

    number: int
    line: int
    fields: Mapping[str, Any]


class BadRow(NamedTuple):
    """A row that is left out. `field`: the column, where one is to blame; `detail` never repeats the row."""

    number: int
    line: int
    field: str | None
    detail: str


class RowReader(Protocol):
    """Takes a file apart. What it holds is bounded, whatever the file is."""

    def feed(self, data: bytes) -> Iterator[Row | BadRow]:
        """The rows that end in `data`, the next part of the file. Raises UnreadableFile."""

    def end(self) -> Iterator[Row | BadRow]:
        """What is left at the file's end. Raises UnreadableFile."""
