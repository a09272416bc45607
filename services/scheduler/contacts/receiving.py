"""A file of contacts, taken in as it comes. What has come stays, whatever ends the upload: sent again, it changes
nothing of that, and goes on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from uuid import UUID

import structlog

from services.scheduler.contacts.contact_import import ContactImport, ImportState, Tally
from services.scheduler.contacts.import_store import ImportProblem, ImportStore
from services.scheduler.contacts.store import ContactStore
from services.scheduler.contacts.taking import take_rows
from services.scheduler.importing.reading import read_portions
from services.scheduler.importing.recipients import Recipient
from services.scheduler.importing.rows import BadRow, RowReader, UnreadableFile
from shared.access import ApiKey
from shared.events import new_email_id
from shared.metrics import CONTACT_ROWS
from shared.problems import Problem
from shared.retrying import Unavailable
from shared.uploads import explain_end

log = structlog.get_logger(__name__)

MOST_PROBLEMS = 100_000
"""After so many bad rows a file is taken for another than was meant."""
_SHOWN = 20  # problems told at once


class ContactImporter:
    """Takes files in. Each holds at most three portions: one that is read, one that waits, one that is written."""

    def __init__(self, contacts: ContactStore, imports: ImportStore) -> None:
        self._contacts = contacts
        self._imports = imports

    async def receive(
        self, key: ApiKey, name: str | None, size: int | None, chunks: AsyncIterator[bytes], reader: RowReader
    ) -> tuple[ContactImport, Sequence[ImportProblem]]:
        """Take all of it in; gives the import, and the first problems. Raises Problem, Unavailable."""
        writer = _Writer(self._contacts, self._imports, key.account)
        await self._imports.begin(writer.import_id, key, name, size)
        async with self._guard(writer):
            try:
                async for portion in read_portions(key.account, writer.count(chunks), reader):
                    await writer.take(portion)
                    if writer.tally.invalid > MOST_PROBLEMS:
                        raise UnreadableFile(f"over {MOST_PROBLEMS} of its rows are no contacts; is it the right one?")
                await writer.wait()
            except UnreadableFile as exc:
                await writer.wait()
                raise _refuse(writer, f"The file cannot be read: {exc}") from None
            if not writer.tally.taken:
                what = f"none of its {writer.tally.rows} rows is a contact" if writer.tally.rows else "it has no rows"
                raise _refuse(writer, f"Nothing was imported: {what}.")
        return await self._finish(key, writer.import_id)

    async def _finish(self, key: ApiKey, import_id: UUID) -> tuple[ContactImport, Sequence[ImportProblem]]:
        await self._imports.end(import_id, ImportState.FINISHED)
        found = await self._imports.find(key.account, import_id)
        assert found, "it was begun"
        log.info("contacts imported", import_id=str(import_id), rows=found.rows, invalid=found.invalid)
        return found, await self._imports.list_problems(import_id, 0, _SHOWN)

    @contextlib.asynccontextmanager
    async def _guard(self, writer: "_Writer") -> AsyncIterator[None]:
        """Whatever ends an upload before it is whole: its import says why."""
        try:
            yield
        except BaseException as exc:
            await asyncio.shield(self._abort(writer, explain_end(exc)))
            raise

    async def _abort(self, writer: "_Writer", why: str) -> None:
        await writer.leave()
        try:
            await self._imports.end(writer.import_id, ImportState.ABORTED, why)
        except Unavailable as exc:  # after a while without a sign of life it says so by itself
            log.warning("an import that was cut off is not noted", import_id=str(writer.import_id), error=str(exc))
        log.info("import aborted", import_id=str(writer.import_id), rows=writer.tally.rows)


class _Writer:
    """Writes one portion while the next is being read."""

    def __init__(self, contacts: ContactStore, imports: ImportStore, account: str) -> None:
        self.import_id = new_email_id()
        self.tally = Tally()
        self.received = 0
        self._contacts = contacts
        self._imports = imports
        self._account = account
        self._writing: asyncio.Task[None] | None = None

    async def count(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same, counted."""
        async for data in chunks:
            self.received += len(data)
            yield data

    async def take(self, portion: Sequence[Recipient | BadRow]) -> None:
        """Write it, once the one before is written."""
        await self.wait()
        self._writing = asyncio.create_task(self._write(portion, self.received))

    async def wait(self) -> None:
        """Everything is written that was taken. Raises Unavailable."""
        if self._writing:
            await self._writing
            self._writing = None

    async def leave(self) -> None:
        """Nothing is written any more, whatever becomes of what is being written."""
        if self._writing:
            await asyncio.wait([self._writing])

    async def _write(self, portion: Sequence[Recipient | BadRow], received: int) -> None:
        bad = [row for row in portion if isinstance(row, BadRow)]
        taken = await take_rows(self._contacts, self._account, [row for row in portion if isinstance(row, Recipient)])
        if taken.refused:
            bad = sorted([*bad, *taken.refused], key=lambda row: row.number)
        taken.counts.invalid = len(bad)
        for name, count in asdict(taken.counts).items():
            setattr(self.tally, name, getattr(self.tally, name) + count)
            CONTACT_ROWS.labels(outcome=name).inc(count)
        await self._imports.note(self.import_id, received, self.tally, bad)


def _refuse(writer: _Writer, detail: str) -> Problem:
    link = f"/v1/contacts/imports/{writer.import_id}/problems"
    tally = writer.tally
    return Problem(
        422,
        "unreadable-list",
        detail,
        import_id=str(writer.import_id),
        imported=tally.taken,
        invalid=tally.invalid,
        problems=link,
    )
