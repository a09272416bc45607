"""Cells that a spreadsheet would carry out: whoever has named himself `=HYPERLINK(…)` is not to act where it is opened.

What is written has an apostrophe before it, which is dropped when the file is read: nothing changes on the way. Pure.
"""

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")


def guard_cell(text: str) -> str:
    """The text as it is written into a cell."""
    return f"'{text}" if _FORMULA.match(text) else text


def read_cell(cell: str) -> str:
    """The text of a cell."""
    return cell[1:] if _GUARDED.match(cell) else cell
