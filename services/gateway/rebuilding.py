"""Rebuild (P14): the read model made again from the records the topics still hold, beside the live one, then swapped.

Until the swap nothing of the live tables changes. The swap keeps the workers out: it reads what has arrived since, so
that the shadow knows all they know, and changes only rows that differ. After it the workers go on where they were:
what they take in once more changes nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from services.gateway.projection import Mail, merge_all
from services.gateway.replaying import Replay
from services.gateway.rows import row_to_mail
from services.gateway.shadow_store import Changes, ShadowStore, Swap
from services.gateway.store import Row, decode
from services.gateway.worker import Projector

_NEAR = 2000  # offsets left to read at which the swap begins
_ROUNDS = 20
_PROGRESS_S = 5.0
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Summary:
    """What a rebuild did. `merged` mails are those of which the topics hold only a part; times in seconds."""

    records: int
    mails: int
    merged: int
    changes: Changes
    took_s: float
    swap_s: float


class Rebuild:
    """One rebuild. `projector` writes into the tables of `shadow`."""

    def __init__(self, replay: Replay, shadow: ShadowStore, projector: Projector, say: Callable[[str], None]) -> None:
        self._replay = replay
        self._shadow = shadow
        self._projector = projector
        self._say = say
        self._records = 0
        self._said_at = 0.0

    async def run(self) -> Summary:
        """Do it. Raises AnotherRebuild, or Unavailable; the live tables are as before then."""
        began = self._said_at = time.monotonic()
        async with self._shadow.alone():
            await self._shadow.create()
            try:
                await self._fill()
                mails = await self._shadow.count_mails()
                self._say(f"{self._records} records, {mails} mails; swapping")
                swap_began = time.monotonic()
                merged, changes = await self._swap()
            finally:
                await self._shadow.drop_all()
        ended = time.monotonic()
        return Summary(self._records, mails, merged, changes, ended - began, ended - swap_began)

    async def _fill(self) -> None:
        """To the ends, and on until little is left for the swap to read."""
        await self._read()
        for _ in range(_ROUNDS):
            if await self._replay.extend() <= _NEAR:
                break
            await self._read()
        await self._shadow.analyze()

    async def _swap(self) -> tuple[int, Changes]:
        async with self._shadow.swapping() as swap:
            await self._replay.extend()
            await self._read()
            await swap.check_days()
            await swap.set_floors(self._replay.firsts)
            partial = dict(await swap.find_partial())
            ids = list(partial)
            for start in range(0, len(ids), _AT_ONCE):
                await self._merge_old(swap, {each: partial[each] for each in ids[start : start + _AT_ONCE]})
            await swap.keep_old_lines()
            return len(partial), await swap.apply()

    async def _merge_old(self, swap: Swap, buckets: dict[UUID, date]) -> None:
        """What the live rows know of mails whose records are partly gone, into the shadow."""
        known = [mail for row in await swap.load_old(list(buckets)) if (mail := _read_old(row))]
        await self._projector.save(merge_all(known), buckets)

    async def _read(self) -> None:
        async for records in self._replay.read():
            await self._projector.project(records)
            self._records += len(records)
            if time.monotonic() - self._said_at > _PROGRESS_S:
                self._said_at = time.monotonic()
                self._say(f"{self._records} records, {await self._shadow.count_mails()} mails")


def _read_old(row: Row) -> Mail | None:
    try:
        return row_to_mail(decode(row))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # garbled: what the records say is all there is
