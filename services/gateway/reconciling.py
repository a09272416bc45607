"""Reconcile (P15): every mail the topics know, derived afresh, against the read model."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from services.gateway.dossiers import Dossier
from services.gateway.gathering import Gathering
from services.gateway.judging import WAITING, Stored, Window, find_differences, find_overdue, find_state
from services.gateway.replaying import Replay
from services.gateway.store import ReadModel

Item = TypeVar("Item")

_AT_ONCE = 500
_PAUSE_S = 0.5
_NAMED = 100  # faults kept with their reason; the rest are counted
MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that does not add up: the mail's id, or the record's coordinates, and why."""

    name: str
    reason: str


@dataclass(slots=True)
class Report:
    """What a run found. `accepted` counts ids with a readable request in what was read, each id once.

    `states` has their states by the records, `stored` by the read model (`missing` where it has no row). `earlier` are
    mails whose request lies before what was read: compared, not counted. `unanswered` are requests nobody can read
    whose answer may still be on its way. `skipped` counts waiting mails whose request could be read and was refused all
    the same: an operator has skipped it, or the scheduler would have made it too large.
    """

    records: int = 0
    accepted: int = 0
    states: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    unanswered: int = 0
    skipped: int = 0
    earlier: int = 0
    faults: int = 0
    named: list[Fault] = field(default_factory=list)

    def blame(self, name: str, reason: str) -> None:
        """Add a fault."""
        self.faults += 1
        if len(self.named) < _NAMED:
            self.named.append(Fault(name, reason))


class Reconciliation:
    """One run. `now` is what ages are counted to, `pending_after` how long a mail may wait unexplained.

    The read model may lag behind the records: what differs is looked at again for `patience`.
    """

    def __init__(
        self,
        replay: Replay,
        gathering: Gathering,
        emails: ReadModel,
        *,
        now: datetime,
        pending_after: timedelta,
        patience: timedelta,
    ) -> None:
        self._replay = replay
        self._gathering = gathering
        self._emails = emails
        self._now = now
        self._pending_after = pending_after
        self._patience_s = patience.total_seconds()
        self._report = Report()

    async def run(self) -> Report:
        """Read, compare, look again. Raises Unavailable where Kafka or PostgreSQL is."""
        async for records in self._replay.read():
            self._gathering.take(records)
        self._report.records = self._gathering.records
        suspects: list[UUID] = []
        for raw in _cut(self._gathering.list_ids(), _AT_ONCE):
            suspects += await self._compare([UUID(bytes=each) for each in raw])
        await self._look_again(suspects)
        self._count_refusals()
        return self._report

    async def _compare(self, ids: Sequence[UUID]) -> list[UUID]:
        """A first look. What agrees is counted, what does not is returned."""
        suspects = []
        for email_id, stored in (await self._load(ids)).items():
            dossier = self._gathering.find(email_id)
            if find_differences(dossier, stored, dossier, self._window):
                suspects.append(email_id)
            else:
                self._count(email_id, dossier, stored)
        return suspects

    async def _look_again(self, suspects: list[UUID]) -> None:
        """What differs may do so because one side has moved on: until both agree, or patience ends."""
        deadline = time.monotonic() + self._patience_s
        while suspects:
            await asyncio.sleep(_PAUSE_S)
            is_last = time.monotonic() > deadline
            left: list[UUID] = []
            for ids in _cut(suspects, _AT_ONCE):
                left += await self._compare_again(ids, is_last)
            suspects = left

    async def _compare_again(self, ids: Sequence[UUID], is_last: bool) -> list[UUID]:
        before = {email_id: self._gathering.find(email_id) for email_id in ids}
        found = await self._load(ids)
        # Whatever a row knows came from a record, which is read now.
        await self._replay.extend()
        async for records in self._replay.read():
            self._gathering.take_news(records, before.keys())
        left = []
        for email_id, stored in found.items():
            after = self._gathering.find(email_id)
            differences = find_differences(before[email_id], stored, after, self._window)
            if differences and not is_last:
                left.append(email_id)
                continue
            if differences:
                self._report.blame(str(email_id), "; ".join(differences))
            self._count(email_id, after, stored)
        return left

    async def _load(self, ids: Sequence[UUID]) -> dict[UUID, Stored]:
        rows, lines = await self._emails.find_emails(ids), await self._emails.find_lines(ids)
        return {email_id: Stored(rows.get(email_id), lines.get(email_id, {})) for email_id in ids}

    @property
    def _window(self) -> Window:
        return Window(self._replay.firsts, self._replay.ends)

    def _count(self, email_id: UUID, dossier: Dossier, stored: Stored) -> None:
        mail = find_state(dossier, stored, self._window)
        if mail is None or dossier.mail is None:
            return  # a cancellation of what nobody asked for
        if dossier.mail.requests:
            self._report.accepted += 1
            self._report.states[mail.status.value] += 1
            self._report.stored[stored.row["status"] if stored.row else MISSING] += 1
        elif not dossier.mail.refused:
            self._report.earlier += 1
        overdue = find_overdue(mail, dossier, self._now, self._pending_after)
        if mail.status in WAITING and dossier.spots and dossier.asked <= self._gathering.answered:
            self._report.skipped += 1
        elif overdue is not None:
            self._report.blame(str(email_id), f"{mail.status.value} without an outcome for {_round(overdue)}")

    def _count_refusals(self) -> None:
        for (partition, offset), seen_at in sorted(self._gathering.unreadable.items()):
            age = self._now - seen_at
            if (partition, offset) in self._gathering.answered:
                self._report.refused += 1
            elif age > self._pending_after:
                reason = f"nobody can read it, and no email.failed has said so for {_round(age)}"
                self._report.blame(f"email.requested {partition}/{offset}", reason)
            else:
                self._report.unanswered += 1


def _cut(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _round(age: timedelta) -> timedelta:
    return timedelta(seconds=round(age.total_seconds()))
