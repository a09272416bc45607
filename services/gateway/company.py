"""Requests of paced mail wait a little for the results of their mails: both become one row, written once. Pure.

A mail written at its request and again at its end is twice a row: a second entry in every index, and two changes of the
counts. What the scheduler lets go in its window (R2) has its result within a second or so, and nobody was promised to
see it earlier: whoever wants to know asks for the batch or the mailing.

What waits is not acknowledged (`owed`): a worker that dies, or fails to write, reads it again. So nothing leaves before
it has been written.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from services.gateway.lines import Observation

_WAIT = timedelta(seconds=2)
_LONGEST_S = 10.0  # however far the results that are read lie behind
_AT_MOST = 10_000  # mails; twice what bulk's window may hold

Place = tuple[str, int]
"""A topic and a partition."""


class _Waiting(NamedTuple):
    """A request, and when (monotonic) it came."""

    observed: Observation
    since: float


class Company:
    """The requests that wait, by the number of the mail's id (a UUID's own hash is Python), in the order they came."""

    def __init__(self, wait: timedelta = _WAIT, at_most: int = _AT_MOST) -> None:
        self._wait = wait
        self._at_most = at_most
        self._waiting: dict[int, _Waiting] = {}
        self._heard: dict[Place, datetime] = {}  # up to when results have been read, since the last look at what is due

    @property
    def owed(self) -> dict[Place, int]:
        """In each partition the first offset that is not written yet."""
        records = {id(one.observed.line.record): one.observed.line.record for one in self._waiting.values()}
        owed: dict[Place, int] = {}
        for record in records.values():
            place = (record.topic, record.partition)
            owed[place] = min(owed.get(place, record.offset), record.offset)
        return owed

    def meet(self, seen: Sequence[Observation]) -> tuple[list[Observation], list[Observation]]:
        """What is to be written now, with the requests that have waited for it; and what is to wait, once it is."""
        waiting = self._waiting
        told = {each.line.email_id.int for each in seen if not each.waits}
        now: list[Observation] = []
        later: list[Observation] = []
        for each in seen:
            number = each.line.email_id.int
            known = waiting.get(number)
            if not each.waits:
                self._heard[each.line.record.topic, each.line.record.partition] = each.line.at
            elif number not in told and (known is None or known.observed.line.record == each.line.record):
                later.append(each)
                continue
            else:
                told.add(number)
            now.append(each)
        now += [waiting[number].observed for number in told & waiting.keys()]
        return now, later

    def keep(self, later: Iterable[Observation]) -> None:
        """Let requests wait."""
        now = time.monotonic()
        for each in later:
            self._waiting.setdefault(each.line.email_id.int, _Waiting(each, now))

    def forget(self, written: Iterable[Observation]) -> None:
        """These are written."""
        for each in written:
            self._waiting.pop(each.line.email_id.int, None)

    def find_due(self) -> list[Observation]:
        """Requests that have waited long enough: results of their time have been read, and theirs was not there."""
        heard, self._heard = min(self._heard.values(), default=None), {}
        now = time.monotonic()
        spare = len(self._waiting) - self._at_most
        due: list[Observation] = []
        for number, (observed, since) in enumerate(self._waiting.values()):
            waited_s = now - since
            if number >= spare and waited_s < self._wait.total_seconds():
                break
            is_heard = heard is None or heard >= observed.line.at + self._wait
            if number < spare or waited_s >= _LONGEST_S or is_heard:
                due.append(observed)
        return due
