"""CSV as it comes, row by row (RFC 4180, and what spreadsheets make of it). Pure."""

from collections import deque
from collections.abc import Iterator, Sequence

from services.scheduler.importing.columns import find_delimiter, read_columns, read_said_delimiter
from services.scheduler.importing.csv_record import BrokenRecord, CsvRecord
from services.scheduler.importing.formulas import read_cell
from services.scheduler.importing.rows import BadRow, Row, UnreadableFile
from services.scheduler.importing.text_lines import LINE_LIMIT, TextLines, is_text

_LINES_LIMIT = 1000  # of one row
_TOO_LONG = f"a row may have at most {LINE_LIMIT} bytes in {_LINES_LIMIT} lines; or a quote before is not closed"
_NO_TEXT = "a byte of it is no text in the file's charset, or is NUL; send UTF-8, or say which charset it is"
_NO_END = "its quote is not closed"


class CsvReader:
    """The first row names the columns. It holds one row that has no end yet, of at most LINE_LIMIT bytes.

    A quote that is not closed costs its own row and no other: reading goes on with the next line.
    """

    def __init__(self, encoding: str = "utf-8") -> None:
        """Raises UnreadableFile for an encoding nobody knows."""
        self._text = TextLines(encoding)
        self._delimiter = ""
        self._columns: list[str | None] = []
        self._names: list[str] = []
        self._record: CsvRecord | None = None
        self._size = 0
        self._line = self._start = 0
        self._number = 0

    def feed(self, data: bytes) -> Iterator[Row | BadRow]:
        """The rows that end in `data`. Raises UnreadableFile."""
        return self._read(self._text.feed(data))

    def end(self) -> Iterator[Row | BadRow]:
        """What is left. Raises UnreadableFile, also where there was not even a first row."""
        yield from self._read(self._text.end())
        while self._record:
            broken, self._record = self._record, None
            yield self._refuse(_NO_END)
            self._line = self._start
            yield from self._read(broken.lines[1:])
        if not self._columns:
            raise UnreadableFile("it is empty")

    def _read(self, lines: Sequence[str | None]) -> Iterator[Row | BadRow]:
        waiting = deque(lines)
        while waiting:
            line = waiting.popleft()
            self._line += 1
            if line is None:
                if self._record:
                    waiting.appendleft(None)
                    yield self._give_up(waiting, _TOO_LONG)
                else:
                    self._start = self._line
                    yield self._refuse(_TOO_LONG)
                continue
            line = line.removesuffix("\r")
            if self._record is None:
                self._start = self._line
                if '"' not in line and self._delimiter:
                    row = self._make(line.split(self._delimiter), line)
                    if row:
                        yield row
                    continue
                if not self._delimiter and not self._find_delimiter(line):
                    continue
                self._record, self._size = CsvRecord(self._delimiter), 0
            try:
                row = self._go_on(self._record, line)
            except BrokenRecord as broken:
                row = self._give_up(waiting, str(broken))
            if row:
                yield row

    def _find_delimiter(self, line: str) -> bool:
        """Whether the line is the first row; else it is empty, or says the delimiter."""
        said = read_said_delimiter(line)
        if said:
            self._delimiter = said
        elif line.strip():
            self._delimiter = find_delimiter(line)
            return True
        return False

    def _go_on(self, record: CsvRecord, line: str) -> Row | BadRow | None:
        cells = record.take(line)
        self._size += len(line) + 1
        if cells is None:
            if self._size > LINE_LIMIT or len(record.lines) > _LINES_LIMIT:
                raise BrokenRecord(_TOO_LONG)
            return None
        self._record = None
        return self._make(cells, "\n".join(record.lines))

    def _give_up(self, waiting: deque[str | None], detail: str) -> BadRow:
        """The record is none. What was taken for its other lines may well be rows."""
        assert self._record
        waiting.extendleft(reversed(self._record.lines[1:]))
        self._record = None
        self._line = self._start
        return self._refuse(detail)

    def _refuse(self, detail: str, field: str | None = None) -> BadRow:
        if not self._columns:
            raise UnreadableFile(f"its first row cannot be read (line {self._start}): {detail}")
        self._number += 1
        return BadRow(self._number, self._start, field, detail)

    def _make(self, cells: list[str], text: str) -> Row | BadRow | None:
        if self._text.is_suspect and not is_text(text):
            return self._refuse(_NO_TEXT)
        if "'" in text:
            cells = list(map(read_cell, cells))
        if not self._columns:
            self._columns = read_columns(cells, self._start)
            self._names = [name for name in self._columns if name]
            return None
        if not any(cells):
            return None
        # An empty cell is what there is none of: as a text it would be written back where there was nothing.
        values: Sequence[str | None] = [cell or None for cell in cells] if "" in cells else cells
        if len(values) != len(self._names) or len(self._columns) != len(self._names):
            return self._fit(values)
        self._number += 1
        return Row(self._number, self._start, dict(zip(self._names, values, strict=True)))

    def _fit(self, cells: Sequence[str | None]) -> Row | BadRow:
        """A row that has more or fewer cells than there are names. Empty ones that nobody has named are passed over."""
        columns = self._columns
        if len(cells) < len(columns) and any(columns[len(cells) :]):
            return self._refuse(f"has {len(cells)} cells, and there are {len(columns)} columns")
        named = [*columns, *[None] * (len(cells) - len(columns))]
        for number, (name, cell) in enumerate(zip(named, cells, strict=False), 1):
            if name is None and cell and cell.strip():
                return self._refuse(f"cell {number} is in no column that has a name; there are {len(self._names)}")
        self._number += 1
        return Row(self._number, self._start, {name: cell for name, cell in zip(named, cells, strict=False) if name})
