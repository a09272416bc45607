"""An upload, taken in as it comes: judged, stored, and let go once it is whole; until then nothing of it leaves."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from services.scheduler.batches.judging import BadItem, Judge, TooMuchApart
from services.scheduler.batches.splitting import NoList, Splitter
from services.scheduler.batches.store import BatchStore
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.pacing.lanes import LaneKey, LaneKind
from services.scheduler.pacing.rows import BulkRow
from shared.problems import Problem
from shared.retrying import Unavailable
from shared.uploads import explain_end

log = structlog.get_logger(__name__)

_ROWS, _BYTES = 500, 1024 * 1024  # of one write
_BEAT_S = 15.0
_TURN_S = 0.005  # single requests are not to wait for an upload
_SHOWN = 20  # problems told at once


@dataclass(frozen=True, slots=True)
class Terms:
    """How a batch is to be taken in."""

    most_items: int
    all_or_nothing: bool = False


@dataclass(slots=True)
class Received:
    """What has come so far; `shown` are the first problems."""

    accepted: int = 0
    invalid: int = 0
    shown: list[BadItem] = field(default_factory=list)

    @property
    def items(self) -> int:
        """All that was sent."""
        return self.accepted + self.invalid


class Receiver:
    """Takes uploads in. Each holds at most two writes of up to a megabyte, and one item."""

    def __init__(self, store: BatchStore, bulk: BulkStore) -> None:
        self._store = store
        self._bulk = bulk

    @contextlib.asynccontextmanager
    async def guard(self, judge: Judge, received: Received) -> AsyncIterator[None]:
        """Whatever ends an upload before it is let go: nothing of it will be sent, and its batch says why."""
        try:
            yield
        except BaseException as exc:
            await asyncio.shield(self._abort(judge, received, explain_end(exc)))
            raise

    async def open_lane(self, judge: Judge) -> None:
        """A lane for the batch's mails, from which nothing leaves yet."""
        lane = LaneKey(judge.key.account, LaneKind.BATCH, str(judge.batch_id))
        lanes = await self._bulk.open_lanes([lane], paused=True)
        await self._store.note_lane(judge.batch_id, lanes[lane])

    async def receive(
        self, chunks: AsyncIterator[bytes], splitter: Splitter, judge: Judge, terms: Terms, received: Received
    ) -> None:
        """Store all of the upload. Raises Problem where it is none, has no end, or may not be sent; Unavailable."""
        writer = _Writer(self._store, self._bulk, judge, received)
        try:
            async for piece in _split(chunks, splitter):
                if received.items >= terms.most_items:
                    detail = f"A batch may have at most {terms.most_items} items. None was sent: upload it in parts."
                    raise Problem(413, "too-large", detail, limit=terms.most_items)
                judged = judge.judge(piece)
                if judged is not None:
                    await writer.take(judged, piece.size)
            await writer.finish()
        except NoList as exc:
            raise Problem(400, "malformed-json", f"The body is not a JSON array: {exc}.") from None
        except TooMuchApart:
            detail = "Too many items are not like the one before: with `content` in each the upload would be too large."
            raise Problem(413, "too-large", detail, limit=judge.apart_limit) from None
        finally:
            await writer.leave()
        _check(judge, terms, received)

    async def _abort(self, judge: Judge, received: Received, why: str) -> None:
        try:
            await self._store.abort(judge.batch_id, why, received.items, received.invalid)
        except Unavailable as exc:  # a worker will give it up
            log.warning("an upload that was cut off is not noted", batch_id=str(judge.batch_id), error=str(exc))
        log.info("batch aborted", batch_id=str(judge.batch_id), items=received.items)


async def _split(chunks: AsyncIterator[bytes], splitter: Splitter) -> AsyncIterator[Any]:
    since = time.monotonic()
    async for data in chunks:
        for piece in splitter.feed(data):
            yield piece
            if time.monotonic() - since > _TURN_S:
                await asyncio.sleep(0)
                since = time.monotonic()
    for piece in splitter.end():
        yield piece


class _Writer:
    """Writes while the next items are being read: one write at a time."""

    def __init__(self, store: BatchStore, bulk: BulkStore, judge: Judge, received: Received) -> None:
        self._store = store
        self._bulk = bulk
        self._batch_id = judge.batch_id
        self._received = received
        self._rows: list[BulkRow] = []
        self._problems: list[BadItem] = []
        self._size = 0
        self._written_at = time.monotonic()
        self._writing: asyncio.Task[None] | None = None

    async def take(self, item: BulkRow | BadItem, size: int) -> None:
        """One item; waits for the write before where it is time for another."""
        received = self._received
        if isinstance(item, BadItem):
            received.invalid += 1
            self._problems.append(item)
            if len(received.shown) < _SHOWN:
                received.shown.append(item)
        else:
            received.accepted += 1
            self._rows.append(item)
        self._size += size
        is_full = len(self._rows) + len(self._problems) >= _ROWS or self._size >= _BYTES
        if is_full or time.monotonic() - self._written_at > _BEAT_S:
            await self._write()

    async def finish(self) -> None:
        """Everything is stored."""
        await self._write()
        await self._wait()

    async def leave(self) -> None:
        """Wait for the write at work, whatever comes of it: nothing is written after the upload's end."""
        if self._writing:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        await self._wait()
        self._writing = asyncio.create_task(self._store_all(self._rows, self._problems))
        self._rows, self._problems, self._size = [], [], 0
        self._written_at = time.monotonic()

    async def _wait(self) -> None:
        if self._writing:
            await self._writing
            self._writing = None

    async def _store_all(self, rows: list[BulkRow], problems: list[BadItem]) -> None:
        written = [orjson.dumps(bad.problem) for bad in problems]
        if not await self._store.note_progress(self._batch_id, problems, written):
            detail = "The upload came too slowly, and was given up. Nothing was sent; send it again."
            raise Problem(408, "too-slow", detail, batch_id=str(self._batch_id))
        await self._bulk.add(rows)


def _check(judge: Judge, terms: Terms, received: Received) -> None:
    """Raises Problem 422 where nothing is to be sent."""
    if not received.items:
        raise Problem(422, "batch-refused", "The upload has no items.", batch_id=str(judge.batch_id))
    if received.accepted and not (terms.all_or_nothing and received.invalid):
        return
    shown = f"`results` has the first {len(received.shown)} problems" if received.invalid > _SHOWN else "see `results`"
    link = f"/v1/batches/{judge.batch_id}/items?state=invalid"
    raise Problem(
        422,
        "batch-refused",
        f"None was sent: {received.invalid} of {received.items} items cannot be accepted; {shown}, `items` has all.",
        batch_id=str(judge.batch_id),
        invalid=received.invalid,
        results=[show_problem(bad) for bad in received.shown],
        items=link,
    )


def show_problem(bad: BadItem) -> dict[str, Any]:
    """A bad item as it is told."""
    where: dict[str, Any] = {"number": bad.number} | ({"line": bad.line} if bad.line else {})
    return where | {"problem": bad.problem}
