"""A file of recipients from its media type and its bytes to portions of judged rows."""

from collections.abc import AsyncIterator, Sequence

from services.scheduler.importing.recipients import Recipient
from services.scheduler.importing.rows import BadRow, RowReader


def choose_reader(media: str, *, attributes_field: str = "attributes") -> RowReader | None:
    """The reader for `text/csv` or `application/x-ndjson`; None: files of this type are not read.

    `attributes_field`: the object within an NDJSON row that holds attributes (of a recipient list: `variables`).
    Raises UnreadableFile for a charset nobody knows.
    """
    raise NotImplementedError


async def read_portions(
    account: str, chunks: AsyncIterator[bytes], reader: RowReader, *, rows: int = 1000
) -> AsyncIterator[Sequence[Recipient | BadRow]]:
    """The judged rows of a file in its order, about `rows` at a time; others have a turn in between.

    Raises UnreadableFile, and whatever `chunks` raises; the rows before have been given by then.
    """
    raise NotImplementedError
    yield
