"""An upload is held piece by piece, and what ends it early leaves its batch aborted."""

import gc
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest

from services.scheduler.batches.judging import BadItem, Judge
from services.scheduler.batches.receiving import Received, Receiver, Terms
from services.scheduler.batches.splitting import ArraySplitter, LineSplitter
from services.scheduler.pacing.rows import BulkRow
from shared.composing.attachments import AttachmentRules
from shared.database import DatabaseUnavailable
from shared.events import new_email_id
from shared.problems import Problem
from tests.support.gateway import make_key

LARGE = Terms(100_000)


@dataclass
class Kept:
    """In place of both stores: what they were given, counted."""

    rows: int = 0
    bad: list[int] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    is_given_up: bool = False
    fails: bool = False

    async def note_progress(self, _: UUID, problems: Sequence[BadItem], written: Sequence[bytes]) -> bool:
        self.bad += [bad.number for bad in problems]
        return not self.is_given_up

    async def add(self, rows: Sequence[BulkRow]) -> int:
        if self.fails:
            raise DatabaseUnavailable("away")
        self.rows += len(rows)
        return len(rows)

    async def abort(self, _: UUID, detail: str, items: int, invalid: int) -> None:
        self.aborted.append(f"{items} {invalid} {detail}")


def make_judge() -> Judge:
    limit = 1024 * 1024
    return Judge(
        new_email_id(), make_key("*@example.com"), datetime.now(UTC), "00-t", AttachmentRules(), limit, 3 * limit
    )


def make_lines(count: int, size: int = 10, **fields: Any) -> list[bytes]:
    mail = {"from": "a@example.com", "to": ["b@example.org"], "subject": "s", **fields}
    return [orjson.dumps(mail | {"text": f"{number} " + "x" * size}) + b"\n" for number in range(count)]


async def stream(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def receive(kept: Kept, parts: AsyncIterator[bytes], splitter: Any = None, terms: Terms = LARGE) -> Received:
    receiver = Receiver(kept, kept)  # type: ignore[arg-type]
    judge, received = make_judge(), Received()
    async with receiver.guard(judge, received):
        await receiver.receive(parts, splitter or LineSplitter(3_000_000), judge, terms, received)
    return received


async def test_memory_does_not_grow_with_the_upload() -> None:
    lines = make_lines(1500, 20_000)
    await receive(Kept(), stream(lines[:100]))
    gc.collect()
    tracemalloc.start()
    try:
        kept = Kept()
        await receive(kept, stream(lines))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept.rows == 1500
    assert sum(map(len, lines)) > 30_000_000
    assert peak < 8_000_000


async def test_every_item_is_written_once_in_groups() -> None:
    kept = Kept()
    lines = [line if number % 3 else b"{bad\n" for number, line in enumerate(make_lines(1300))]
    received = await receive(kept, stream([b"".join(lines[at : at + 70]) for at in range(0, 1300, 70)]))
    assert (kept.rows, len(kept.bad)) == (received.accepted, received.invalid) == (866, 434)
    assert kept.bad == list(range(1, 1301, 3))
    assert len(received.shown) == 20 and kept.aborted == []


@pytest.mark.parametrize(
    ("kept", "parts", "splitter", "status", "words"),
    [
        (Kept(), [b"[{}, 1"], ArraySplitter(1000), 400, "1 1 The body is not a JSON array: it has no end"),
        (Kept(), [b"[1}"], ArraySplitter(1000), 400, "0 0 The body is not a JSON array: a brace too many"),
        (
            Kept(),
            make_lines(30),
            None,
            413,
            "20 0 A batch may have at most 20 items. None was sent: upload it in parts.",
        ),
        (Kept(is_given_up=True), make_lines(5), None, 408, "5 0 The upload came too slowly"),
        (Kept(fails=True), make_lines(5), None, None, "5 0 The database did not answer"),
    ],
)
async def test_an_upload_that_ends_early_says_why(
    kept: Kept, parts: list[bytes], splitter: Any, status: int | None, words: str
) -> None:
    with pytest.raises(Problem if status else DatabaseUnavailable) as caught:
        await receive(kept, stream(parts), splitter, Terms(20))
    assert getattr(caught.value, "status", None) == status
    assert len(kept.aborted) == 1 and kept.aborted[0].startswith(words)
