"""The first row of a CSV file: which delimiter it has, and what its columns are. Pure."""

import re

from services.scheduler.importing.rows import UnreadableFile

_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"?')
_SAID = re.compile(r"sep=([,;\t|])", re.IGNORECASE)
_NAME_LIMIT = 100
_COLUMN_LIMIT = 200
ADDRESS_NAMES = frozenset({"address", "email", "e-mail"})
KNOWN = frozenset({"address", "name", "timezone", "tags"})
"""Fields of a recipient; whatever else a row names is an attribute."""


def read_said_delimiter(line: str) -> str | None:
    """The delimiter of a line `sep=;`, as Excel writes it before all others."""
    said = _SAID.fullmatch(line)
    return said[1] if said else None


def find_delimiter(header: str) -> str:
    """The delimiter that the first row has most of, outside of quotes."""
    bare = _QUOTED.sub("", header)
    return max(_DELIMITERS, key=bare.count)


def read_columns(cells: list[str], line: int) -> list[str | None]:
    """The fields that the columns are for; None for one without a name. Raises UnreadableFile, and repeats no cell:
    where the names were forgotten, the first row is somebody's data."""
    names = [name_column(cell) for cell in cells]
    if len(cells) > _COLUMN_LIMIT:
        raise UnreadableFile(f"it has more than {_COLUMN_LIMIT} columns (line {line})")
    for number, name in enumerate(names, 1):
        if name is None:
            continue
        if len(name) > _NAME_LIMIT or not name.isprintable():
            detail = f"the name of column {number} has more than {_NAME_LIMIT} characters, or control characters"
            raise UnreadableFile(f"{detail} (line {line})")
        if name in names[: number - 1]:
            earlier = names.index(name) + 1
            raise UnreadableFile(f"columns {earlier} and {number} have the same name (line {line})")
    if "address" not in names:
        detail = f"no column is named `address` (line {line}): the first row has to name the columns"
        raise UnreadableFile(f"{detail}, separated by comma, semicolon, tab or |")
    return names


def name_column(cell: str) -> str | None:
    """The field a column of this name is for; None where it has none."""
    name = cell.strip()
    lowered = name.lower()
    if lowered in ADDRESS_NAMES:
        return "address"
    return (lowered if lowered in KNOWN else name) or None
