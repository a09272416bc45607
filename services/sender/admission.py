"""Before a record is read: is it one that has ended processes? The rules are in suspects.py."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import uuid4

import structlog

from services.sender.store import PartitionStore
from services.sender.suspects import Suspicion, assess
from shared.consuming import FaustTicket, Partition
from shared.metrics import RECORDS_HELD
from shared.retrying import Unavailable, retry_while_unavailable

log = structlog.get_logger(__name__)

_TRY_S = 5.0  # a record that has not been claimed by then waits for something else than its own bug
_LEAVE_S = 2.0
_LOOK_EVERY_S = 1.0


@dataclass(slots=True)
class _Reading:
    """One assigned partition."""

    suspicion: Suspicion
    held: FaustTicket | None = None


class Admission:
    """Stands before the pipeline, one for a process.

    An operator decides on a held ticket: `on_skip` gets one that is given up, with the number of deaths, `on_release`
    one that gets another chance. `set_paused` pauses or resumes a partition's consumption.
    """

    on_skip: Callable[[FaustTicket, int], None]
    on_release: Callable[[FaustTicket], None]
    set_paused: Callable[[Partition, bool], None]

    def __init__(self, store: PartitionStore) -> None:
        self._store = store
        self._name = uuid4()
        self._readings: dict[Partition, _Reading] = {}
        self._named = False  # whether our name may stand in a row
        self._blamed = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin looking for what operators have decided."""
        self._task = asyncio.create_task(self._run(), name="admission")

    async def stop(self) -> None:
        """Stop looking."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def before(self, tp: Partition, offset: int) -> None:
        """A record is about to enter the lane."""
        reading = self._readings.get(tp)
        if reading is None:
            reading = await retry_while_unavailable(lambda: self._enter(tp, offset), "admission")
        suspicion = reading.suspicion
        if suspicion.is_careful(offset) and not suspicion.is_held(offset):
            await self._write(tp, reading, replace(suspicion, trying=offset))

    def admit(self, ticket: FaustTicket) -> bool:
        """False: the ticket is held, and nobody is to look at its record."""
        tp = ticket.partition
        reading = self._readings.get(tp)
        if reading is None or not reading.suspicion.is_held(ticket.offset):
            return True
        reading.held = ticket
        self.set_paused(tp, True)
        RECORDS_HELD.labels(partition=tp.partition, offset=ticket.offset).set(1)
        deaths = reading.suspicion.deaths
        log.error("record held", topic=tp.topic, partition=tp.partition, offset=ticket.offset, deaths=deaths)
        return False

    async def after(self, ticket: FaustTicket) -> None:
        """The record has entered the lane. In careful reading: wait until it has been read."""
        tp, offset = ticket.partition, ticket.offset
        reading = self._readings.get(tp)
        if reading is None or reading.suspicion.trying != offset or not reading.suspicion.is_careful(offset):
            return
        end = time.monotonic() + _TRY_S
        while not (ticket.read or ticket.done) and time.monotonic() < end:
            await asyncio.sleep(0.005)
        suspect = None if reading.suspicion.suspect == offset else reading.suspicion.suspect  # it is innocent
        await self._write(tp, reading, replace(reading.suspicion, trying=None, suspect=suspect))

    def blame(self) -> None:
        """A bug in reading a record ends this process: that counts as a death."""
        self._blamed = True

    async def leave(self) -> None:
        """The assignment has ended; unless a record is to blame, nothing has died of it."""
        readings, self._readings = self._readings, {}
        for tp, reading in readings.items():
            self._forget(tp, reading)
        if self._named and not self._blamed:
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    await self._store.leave(self._name)
                    self._named = False

    async def check(self) -> str | None:
        """For /readyz: names what is held."""
        held = [(tp, reading) for tp, reading in self._readings.items() if reading.held]
        if not held:
            return None
        return "; ".join(
            f"{tp.topic} partition {tp.partition} waits at offset {reading.suspicion.suspect}, which has ended "
            f"{reading.suspicion.deaths} processes: python -m services.sender skip (or release) "
            f"--partition {tp.partition} --offset {reading.suspicion.suspect}"
            for tp, reading in held
        )

    async def _enter(self, tp: Partition, head: int) -> _Reading:
        known, holder = await self._store.find(tp.topic, tp.partition)
        died = holder is not None and holder != self._name
        suspicion = assess(known, head, died=died)
        if suspicion.deaths and died:
            offset, deaths = suspicion.suspect, suspicion.deaths
            log.warning("partition's last reader died", partition=tp.partition, offset=offset, deaths=deaths)
        self._named = True
        await self._store.enter(tp.topic, tp.partition, suspicion, self._name)
        reading = self._readings[tp] = _Reading(suspicion)
        return reading

    async def _write(self, tp: Partition, reading: _Reading, suspicion: Suspicion) -> None:
        """Only while the partition is ours: its next reader has his own account."""
        if self._readings.get(tp) is not reading:
            return
        reading.suspicion = suspicion
        await retry_while_unavailable(
            lambda: self._store.save(tp.topic, tp.partition, suspicion, self._name), "admission"
        )

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            for tp, reading in list(self._readings.items()):
                try:
                    if reading.held:
                        await self._look(tp, reading, reading.held)
                except Unavailable:
                    pass
                except Exception:
                    log.exception("held record cannot be looked up", partition=tp.partition)

    async def _look(self, tp: Partition, reading: _Reading, ticket: FaustTicket) -> None:
        verdict = await self._store.find_verdict(tp.topic, tp.partition, ticket.offset)
        if verdict is None or self._readings.get(tp) is not reading:
            return
        deaths = reading.suspicion.deaths
        await self._write(tp, reading, reading.suspicion.clear())
        self._forget(tp, reading)
        self.set_paused(tp, False)
        if verdict == "skip":
            self.on_skip(ticket, deaths)
        else:
            log.info("held record released", partition=tp.partition, offset=ticket.offset)
            self.on_release(ticket)

    def _forget(self, tp: Partition, reading: _Reading) -> None:
        if reading.held:
            RECORDS_HELD.remove(tp.partition, reading.held.offset)
            reading.held = None
