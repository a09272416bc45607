"""Files of recipients over HTTP: which are taken, and how what was wrong with them is given back."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi.responses import StreamingResponse

from services.scheduler.importing.csv_writer import write_rows
from services.scheduler.importing.reading import choose_reader
from services.scheduler.importing.rows import RowReader, UnreadableFile
from shared.problems import Problem

_MEDIA = "Send text/csv with a header row, or a recipient a line with application/x-ndjson."


def choose_upload_reader(media: str, attributes_field: str) -> RowReader:
    """The reader for this Content-Type. Raises Problem 415."""
    try:
        reader = choose_reader(media, attributes_field=attributes_field)
    except UnreadableFile as exc:
        raise Problem(415, "unsupported-media-type", f"The file cannot be read: {exc}") from None
    if reader is None:
        raise Problem(415, "unsupported-media-type", _MEDIA)
    return reader


def download_csv(
    name: str, columns: Sequence[str], portions: AsyncIterator[Sequence[Sequence[Any]]]
) -> StreamingResponse:
    """Rows as a CSV file of this name, however many."""

    async def write() -> AsyncIterator[str]:
        yield write_rows([columns])
        async for portion in portions:
            yield write_rows(portion)

    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(write(), media_type="text/csv", headers=headers)
