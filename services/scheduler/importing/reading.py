"""A file of recipients from its media type and its bytes to portions of judged rows."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence

from services.scheduler.importing.csv_reader import CsvReader
from services.scheduler.importing.json_reader import JsonReader
from services.scheduler.importing.recipients import Recipient, judge_row
from services.scheduler.importing.rows import BadRow, Row, RowReader

_CSV = frozenset({"text/csv", "application/csv", "text/tab-separated-values"})
_LINES = frozenset({"application/x-ndjson", "application/jsonl"})
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([\w.:-]{1,40})', re.IGNORECASE)
_TURN_S = 0.005  # single requests are not to wait for an upload
_BEAT_S = 15.0  # whoever stores portions is not to think that the upload has stalled
_LOOKED = 32  # rows between two looks at the clock


def choose_reader(media: str, *, attributes_field: str = "attributes") -> RowReader | None:
    """The reader for `text/csv` or `application/x-ndjson`; None: files of this type are not read.

    `attributes_field`: the object within an NDJSON row that holds attributes (of a recipient list: `variables`).
    Raises UnreadableFile for a charset nobody knows.
    """
    kind = media.partition(";")[0].strip().lower()
    if kind in _CSV:
        charset = _CHARSET.search(media)
        return CsvReader(charset[1] if charset else "utf-8")
    return JsonReader(attributes_field) if kind in _LINES else None


async def read_portions(
    account: str, chunks: AsyncIterator[bytes], reader: RowReader, *, rows: int = 1000
) -> AsyncIterator[Sequence[Recipient | BadRow]]:
    """The judged rows of a file in its order, about `rows` at a time; others have a turn in between.

    Raises UnreadableFile, and whatever `chunks` raises; the rows before have been given by then.
    """
    portion: list[Recipient | BadRow] = []
    turned = given = time.monotonic()
    try:
        async for found in _read_parts(chunks, reader):
            for row in found:
                portion.append(row if isinstance(row, BadRow) else judge_row(account, row))
                if len(portion) % _LOOKED:
                    continue
                now = time.monotonic()
                if len(portion) >= rows or now - given > _BEAT_S:
                    yield portion
                    portion = []
                    turned = given = time.monotonic()
                elif now - turned > _TURN_S:
                    await asyncio.sleep(0)
                    turned = time.monotonic()
    except Exception:
        if portion:
            yield portion
        raise
    if portion:
        yield portion


async def _read_parts(chunks: AsyncIterator[bytes], reader: RowReader) -> AsyncIterator[Iterator[Row | BadRow]]:
    async for data in chunks:
        yield reader.feed(data)
    yield reader.end()
