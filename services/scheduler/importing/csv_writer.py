"""Rows of a CSV file (RFC 4180), to be read here or by a spreadsheet. Pure."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def write_rows(rows: Iterable[Sequence[Any]]) -> str:
    """Rows of a file, each with its end."""
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue()
