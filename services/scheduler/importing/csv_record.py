"""One record of a CSV file, line by line (RFC 4180). Pure.

Python's `csv` reads files that are there; one that comes in parts, may have no end and is to be gone on with after a
quote that was forgotten, it does not.
"""

import re

_QUOTED = re.compile(r'[^"]*+(?:""[^"]*+)*+')
_FORGOTTEN = "a quote is not closed, or something follows it that is no delimiter"


class BrokenRecord(Exception):
    """The record is none; the message says why."""


class CsvRecord:
    """A record that begins. `lines` are those it has taken."""

    def __init__(self, delimiter: str) -> None:
        self.lines: list[str] = []
        self._delimiter = delimiter
        self._cells: list[str] = []
        self._open: list[str] | None = None

    def take(self, line: str) -> list[str] | None:
        """The cells, once they are whole; None while a quoted one goes on. Raises BrokenRecord."""
        self.lines.append(line)
        where = 0
        while True:
            if self._open is None and line[where : where + 1] != '"':
                where = self._take_plain(line, where)
            else:
                begin = where + (self._open is None)
                self._open = self._open or []
                found = _QUOTED.match(line, begin)
                assert found, "it matches nothing, too"
                self._open.append(found[0])
                if found.end() == len(line):
                    return None
                self._cells.append("\n".join(self._open).replace('""', '"'))
                self._open = None
                where = found.end() + 1
            if where >= len(line):
                return self._cells
            if line[where] != self._delimiter:
                raise BrokenRecord(_FORGOTTEN)
            where += 1

    def _take_plain(self, line: str, where: int) -> int:
        end = line.find(self._delimiter, where)
        end = len(line) if end < 0 else end
        self._cells.append(line[where:end])
        return end
