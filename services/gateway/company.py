"""Requests of paced mail and their results wait a little for each other: both become one row, written once. Pure.

A mail written at its request and again at its end is twice a row: a second entry in every index, and two changes of the
counts. What the scheduler lets go in its window (R2) has its result within a second or so, and nobody was promised to
see its request earlier: whoever wants to know asks for the batch or the mailing. Either may be read first: they lie in
different topics, and behind a backlog the requests, which are larger, are read later than the results. A result waits
only as long as requests of its time may still come.

What waits is not acknowledged (`owed`): a worker that dies, or fails to write, reads it again. So nothing leaves before
it has been written.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from services.gateway.lines import Observation

_WAIT = timedelta(seconds=2)
_LONGEST_S = 10.0  # however far what they wait for lies behind
_SILENT_S = 3.0  # a partition of which so long nothing was read has nothing more of that time
_AT_MOST = 10_000  # mails; twice what bulk's window may hold

Place = tuple[str, int]
"""A topic and a partition."""


class _Waiting(NamedTuple):
    """A request or a result, and when (monotonic) it came."""

    observed: Observation
    since: float


class _Heard(NamedTuple):
    """Up to when (the broker's time) a partition has been read, and when (monotonic) that was."""

    until: datetime
    since: float


class Company:
    """What waits, by the number of the mail's id (a UUID's own hash is Python), in the order it came."""

    def __init__(self, wait: timedelta = _WAIT, at_most: int = _AT_MOST) -> None:
        self._wait = wait
        self._at_most = at_most
        self._waiting: dict[int, _Waiting] = {}
        self._requests: dict[Place, _Heard] = {}
        self._results: dict[Place, _Heard] = {}
        self._began = 0.0  # when (monotonic) the first was read

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
        heard_at = time.monotonic()
        self._began = self._began or heard_at
        together = {each.line.email_id.int for each in seen if not each.waits}
        alone: dict[int, Observation] = {}
        for each in seen:
            number = each.line.email_id.int
            record = each.line.record
            heard = self._results if each.is_result else self._requests
            heard[record.topic, record.partition] = _Heard(each.line.at, heard_at)
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
        """What has waited long enough: what it waits for has been read up to its time, and was not there. Also what
        is more than may wait, and what has waited for 10 s."""
        now = time.monotonic()
        requests, results = _find_end(self._requests, now), _find_end(self._results, now)
        begins = now < self._began + _SILENT_S
        spare = len(self._waiting) - self._at_most
        due: list[Observation] = []
        for number, (observed, since) in enumerate(self._waiting.values()):
            at, waited = observed.line.at, timedelta(seconds=now - since)
            if observed.is_result:
                vain = requests >= at if requests else not begins  # a request lies before its result
            else:
                vain = waited >= self._wait and (results is None or results >= at + self._wait)
            if vain or number < spare or waited.total_seconds() >= _LONGEST_S:
                due.append(observed)
        return due


def _find_end(heard: Mapping[Place, _Heard], now: float) -> datetime | None:
    """Up to when all partitions have been read of which something still comes; None: nothing comes."""
    return min((each.until for each in heard.values() if each.since > now - _SILENT_S), default=None)
