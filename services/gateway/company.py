"""Requests of paced mail and their results wait a little for each other: both become one row, written once. Pure.

A mail written at its request and again at its end is twice a row: a second entry in every index, and two changes of the
counts. What the scheduler lets go in its window (R2) has its result within a second or so, and nobody was promised to
see it earlier: whoever wants to know asks for the batch or the mailing. Either may be read first: they lie in different
topics, and behind a backlog the requests, which are larger, are read later than the results.

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
    """A request or a result, and when (monotonic) it came."""

    observed: Observation
    since: float


class Company:
    """What waits, by the number of the mail's id (a UUID's own hash is Python), in the order it came."""

    def __init__(self, wait: timedelta = _WAIT, at_most: int = _AT_MOST) -> None:
        self._wait = wait
        self._at_most = at_most
        self._waiting: dict[int, _Waiting] = {}
        # up to when requests, and results, have been read since the last look at what is due
        self._requests: dict[Place, datetime] = {}
        self._results: dict[Place, datetime] = {}

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
        """What is to be written now, with what has waited for it; and what is to wait, once that is."""
        waiting = self._waiting
        together = {each.line.email_id.int for each in seen if not each.waits}
        alone: dict[int, Observation] = {}
        for each in seen:
            number = each.line.email_id.int
            record = each.line.record
            (self._results if each.is_result else self._requests)[record.topic, record.partition] = each.line.at
            known = alone.get(number) or (waiting[number].observed if number in waiting else None)
            if known is None:
                alone[number] = each
            elif known.line.record != record:  # else it is read once more, and waits already
                together.add(number)
        now = [each for each in seen if each.line.email_id.int in together]
        now += [waiting[number].observed for number in together & waiting.keys()]
        return now, [each for number, each in alone.items() if number not in together]

    def keep(self, later: Iterable[Observation]) -> None:
        """Let these wait."""
        now = time.monotonic()
        for each in later:
            self._waiting.setdefault(each.line.email_id.int, _Waiting(each, now))

    def forget(self, written: Iterable[Observation]) -> None:
        """These are written."""
        for each in written:
            self._waiting.pop(each.line.email_id.int, None)

    def find_due(self) -> list[Observation]:
        """What has waited long enough: what it waits for has been read up to its time, and was not there."""
        requests, results = min(self._requests.values(), default=None), min(self._results.values(), default=None)
        self._requests, self._results = {}, {}
        now = time.monotonic()
        spare = len(self._waiting) - self._at_most
        due: list[Observation] = []
        for number, (observed, since) in enumerate(self._waiting.values()):
            waited_s = now - since
            if number >= spare and waited_s < self._wait.total_seconds():
                break
            heard = requests if observed.is_result else results
            is_heard = heard is None or heard >= observed.line.at + self._wait
            if number < spare or waited_s >= _LONGEST_S or is_heard:
                due.append(observed)
        return due
