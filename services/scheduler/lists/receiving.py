"""An upload of recipients, taken in as it comes: it may be written to once it is whole, and not before."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from services.scheduler.importing.reading import read_portions
from services.scheduler.importing.recipients import Recipient
from services.scheduler.importing.rows import BadRow, RowReader, UnreadableFile
from services.scheduler.lists.recipient_list import ProblemKind, RecipientList, RowProblem
from services.scheduler.lists.store import ListStore, Totals
from shared.access import ApiKey
from shared.events import new_email_id
from shared.problems import Problem
from shared.retrying import Unavailable
from shared.uploads import explain_end

log = structlog.get_logger(__name__)

_SHOWN = 20  # problems told at once
_VARIABLES_TOLD = 200
_DOUBLED = "a row before has this recipient"


@dataclass(slots=True)
class Received:
    """What has come so far; `shown` are the first problems, in the order in which they were found."""

    rows: int = 0
    invalid: int = 0
    duplicates: int = 0
    variables: set[str] = field(default_factory=set)
    shown: list[RowProblem] = field(default_factory=list)

    def to_totals(self) -> Totals:
        """As they are kept."""
        return Totals(self.rows, self.invalid, self.duplicates, sorted(self.variables))

    def note(self, entries: Sequence[Recipient], bad: Sequence[BadRow], doubled: Sequence[int]) -> None:
        """One portion has been kept."""
        self.rows += len(entries) + len(bad)
        self.invalid += len(bad)
        self.duplicates += len(doubled)
        for entry in entries:
            if len(self.variables) < _VARIABLES_TOLD:
                self.variables.update(entry.attributes or (), ("tags",) if entry.tags is not None else ())
        lines = {entry.number: entry.line for entry in entries}
        problems = [RowProblem(each.number, each.line, ProblemKind.INVALID, each.field, each.detail) for each in bad]
        for number in doubled:
            problems.append(RowProblem(number, lines[number], ProblemKind.DUPLICATE, "address", _DOUBLED))
        self.shown = [*self.shown, *sorted(problems)][:_SHOWN]


class ListReceiver:
    """Takes lists in. Each upload holds one portion at a time."""

    def __init__(self, store: ListStore, most_rows: int) -> None:
        self._store = store
        self._most_rows = most_rows

    async def receive(
        self, key: ApiKey, name: str | None, chunks: AsyncIterator[bytes], reader: RowReader
    ) -> tuple[RecipientList, list[RowProblem]]:
        """Store all of it; gives the list, and the first problems. Raises Problem, Unavailable; then it is none."""
        list_id, received = new_email_id(), Received()
        await self._store.begin(list_id, key, name)
        async with self._guard(list_id, received):
            try:
                async for portion in read_portions(key.account, chunks, reader):
                    await self._keep(list_id, portion, received)
            except UnreadableFile as exc:
                raise _refuse(list_id, f"The file cannot be read: {exc}", received) from None
            if received.rows == received.invalid:
                what = f"none of its {received.rows} rows is a recipient" if received.rows else "it has no rows"
                raise _refuse(list_id, f"Nobody is in the list: {what}.", received)
            found = await self._store.finish(list_id, received.to_totals())
            if found is None:
                raise _too_slow(list_id)
        return found, received.shown

    async def _keep(self, list_id: UUID, portion: Sequence[Recipient | BadRow], received: Received) -> None:
        if received.rows + len(portion) > self._most_rows:
            detail = f"A list may have at most {self._most_rows} rows. None was kept: upload it in parts."
            raise Problem(413, "too-large", detail, limit=self._most_rows)
        bad = [each for each in portion if isinstance(each, BadRow)]
        entries = [each for each in portion if isinstance(each, Recipient)]
        doubled = await self._store.add(list_id, entries, bad)
        if doubled is None:
            raise _too_slow(list_id)
        received.note(entries, bad, doubled)

    @contextlib.asynccontextmanager
    async def _guard(self, list_id: UUID, received: Received) -> AsyncIterator[None]:
        """Whatever ends an upload before it is whole: nobody is in the list, and it says why."""
        try:
            yield
        except BaseException as exc:
            await asyncio.shield(self._abort(list_id, explain_end(exc), received))
            raise

    async def _abort(self, list_id: UUID, why: str, received: Received) -> None:
        try:
            await self._store.abort(list_id, why, received.to_totals())
        except Unavailable as exc:  # a worker will give it up
            log.warning("an upload that was cut off is not noted", list_id=str(list_id), error=str(exc))
        log.info("list aborted", list_id=str(list_id), rows=received.rows)


def _refuse(list_id: UUID, detail: str, received: Received) -> Problem:
    told = [problem._asdict() for problem in received.shown]
    link = f"/v1/lists/{list_id}/problems"
    return Problem(422, "list-refused", detail, list_id=str(list_id), rows=received.rows, results=told, problems=link)


def _too_slow(list_id: UUID) -> Problem:
    detail = "The upload came too slowly, and was given up. Nobody is in the list; send it again."
    return Problem(408, "too-slow", detail, list_id=str(list_id))
