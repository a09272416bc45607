"""Suppressions as CSV (RFC 4180): read line by line in bounded memory, every bad row told with its line. Pure.

The first line names the columns: `address`, and as far as wanted `account`, `reason`, `until`; others are passed over,
so what was exported can be imported. Commas, semicolons or tabs; UTF-8, with or without a byte order mark.
"""

import csv
import io
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from pydantic import TypeAdapter, ValidationError

from services.sender.store import Suppression
from services.sender.suppressing import normalise_address
from shared.addresses import InvalidAddress
from shared.events.requested import Account

COLUMNS = ("account", "address", "reason", "until", "created_at")
REASON_LIMIT = 200  # characters
_LINE_LIMIT = 8192  # octets
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"
_account = TypeAdapter(Account)


class UnreadableList(Exception):
    """The file as a whole is no list of suppressions; the message says what to do."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is no suppression, and why; the line is counted from 1, the header's."""

    line: int
    detail: str


async def split_lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Lines without their ends (LF, CRLF, or CR alone). Raises UnreadableList for a line beyond any row."""
    kept = b""
    async for chunk in chunks:
        kept += chunk
        half = b"\r" if kept.endswith(b"\r") else b""  # its LF may be in the next chunk
        *lines, kept = _split(kept.removesuffix(half))
        if len(kept) > _LINE_LIMIT:
            raise UnreadableList(f"a line has more than {_LINE_LIMIT} bytes; is this a CSV file?")
        kept += half
        for line in lines:
            yield line
    for line in _split(kept):
        yield line


def _split(text: bytes) -> list[bytes]:
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")


class SuppressionReader:
    """Reads one file's lines in order. `account` is meant where a row names none."""

    def __init__(self, account: str, now: datetime) -> None:
        self._account = account
        self._now = now
        self._line = 0
        self._columns: list[str] = []
        self._delimiter = ","

    def read(self, line: bytes) -> Suppression | BadRow | None:
        """One line; None for the header and what is empty. Raises UnreadableList at the header."""
        self._line += 1
        if not self._columns:
            self._begin(line)
            return None
        try:
            cells = self._split(line)
            return self._to_suppression(cells) if any(cells) else None
        except (ValueError, csv.Error) as exc:
            return BadRow(self._line, str(exc))

    def _begin(self, line: bytes) -> None:
        if line.startswith(_UTF16) or b"\0" in line:
            raise UnreadableList("the file is not UTF-8 (it looks like UTF-16); save it as CSV UTF-8")
        try:
            text = line.removeprefix(_UTF8_MARK).decode()
        except UnicodeDecodeError:
            raise UnreadableList("the first line is not UTF-8; save the file as CSV UTF-8") from None
        if not text.strip():
            return
        self._delimiter = next((each for each in ",;\t" if each in text), ",")
        columns = [name.strip().strip('"').lower() for name in text.split(self._delimiter)]
        if "address" not in columns:
            raise UnreadableList("the first line must name the columns: address, and if wanted account, reason, until")
        self._columns = columns

    def _split(self, line: bytes) -> list[str]:
        if len(line) > _LINE_LIMIT:
            raise ValueError(f"has more than {_LINE_LIMIT} bytes")
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise ValueError("is not UTF-8; save the file as CSV UTF-8") from None
        if "\0" in text:
            raise ValueError("contains a NUL character")
        try:
            rows = list(csv.reader([text], delimiter=self._delimiter, strict=True))
        except csv.Error as exc:
            raise ValueError(f"is no CSV row ({exc}); a field must not contain a line break") from None
        return [cell.strip() for cell in rows[0]] if rows else []

    def _to_suppression(self, cells: list[str]) -> Suppression:
        if len(cells) > len(self._columns):
            raise ValueError(f"has {len(cells)} fields, the header {len(self._columns)}")
        row = dict(zip(self._columns, cells, strict=False))
        try:
            address = normalise_address(row.get("address", ""))
        except InvalidAddress as exc:
            raise ValueError(f"address: {exc}") from None
        reason = row.get("reason", "")
        if len(reason) > REASON_LIMIT:
            raise ValueError(f"reason: has more than {REASON_LIMIT} characters")
        return Suppression(self._read_account(row), address, reason or "imported", self._read_until(row))

    def _read_account(self, row: dict[str, str]) -> str:
        try:
            return _account.validate_python(row.get("account") or self._account)
        except ValidationError:
            raise ValueError("account: letters, digits, dots, dashes and underscores, at most 64") from None

    def _read_until(self, row: dict[str, str]) -> datetime | None:
        text = row.get("until", "")
        if not text:
            return None
        until = read_moment(text)
        if until <= self._now:
            raise ValueError("until: is over")
        return until


def read_moment(text: str) -> datetime:
    """An RFC 3339 time, or a date, of which the end is meant (UTC). Raises ValueError."""
    try:
        if len(text) == len("2026-12-31"):
            return datetime.combine(date.fromisoformat(text), time(), UTC) + timedelta(days=1)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("until: write 2026-12-31 or 2026-12-31T12:00:00Z") from None
    raise ValueError("until: the time needs a zone: 2026-12-31T12:00:00Z")


def write_rows(suppressions: Iterable[Suppression]) -> str:
    """CSV lines, without the header."""
    lines = io.StringIO()
    writer = csv.writer(lines)
    for each in suppressions:
        until = each.until.isoformat() if each.until else ""
        created = each.created_at.isoformat() if each.created_at else ""
        writer.writerow([each.account, each.address, each.reason, until, created])
    return lines.getvalue()
