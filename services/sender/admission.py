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

    `has_begun` tells whether a ticket's mail is claimed or its story over; `on_skip` gets a held ticket that an
    operator has skipped, with the number of deaths; `set_paused` pauses or resumes a partition's consumption.
    """

    has_begun: Callable[[FaustTicket], bool]
    on_skip: Callable[[FaustTicket, int], None]
    set_paused: Callable[[Partition, bool], None]

    def __init__(self, store: PartitionStore) -> None:
        self._store = store
        self._name = uuid4()
        self._readings: dict[Partition, _Reading] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin looking for what operators have skipped."""
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
            await retry_while_unavailable(lambda: self._try(tp, offset), "admission")

    def admit(self, ticket: FaustTicket) -> bool:
        """False: the ticket is held, and nobody is to look at its record."""
        reading = self._readings.get(ticket.partition)
        if reading is None or not reading.suspicion.is_held(ticket.offset):
            return True
        reading.held = ticket
        self.set_paused(ticket.partition, True)
        RECORDS_HELD.labels(partition=ticket.partition.partition, offset=ticket.offset).set(1)
        log.error(
            "record held",
            topic=ticket.partition.topic,
            partition=ticket.partition.partition,
            offset=ticket.offset,
            deaths=reading.suspicion.deaths,
        )
        return False

    async def after(self, ticket: FaustTicket) -> None:
        """The record has entered the lane. In careful reading: wait until it cannot end the process any more."""
        tp = ticket.partition
        reading = self._readings.get(tp)
        if (
            reading is None
            or reading.suspicion.trying != ticket.offset
            or not reading.suspicion.is_careful(ticket.offset)
        ):
            return
        end = time.monotonic() + _TRY_S
        while not (ticket.done or self.has_begun(ticket)) and time.monotonic() < end:
            await asyncio.sleep(0.005)
        suspect = None if reading.suspicion.suspect == ticket.offset else reading.suspicion.suspect  # it is innocent
        passed = replace(reading.suspicion, trying=None, suspect=suspect)
        await retry_while_unavailable(lambda: self._write(tp, passed), "admission")

    async def leave(self) -> None:
        """The assignment has ended and nothing has died of it."""
        readings, self._readings = self._readings, {}
        for tp, reading in readings.items():
            self._forget(tp, reading)
        if readings:
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    await self._store.leave(self._name)

    async def check(self) -> str | None:
        """For /readyz: names what is held."""
        held = [(tp, reading) for tp, reading in self._readings.items() if reading.held]
        if not held:
            return None
        return "; ".join(
            f"{tp.topic} partition {tp.partition} waits at offset {reading.suspicion.suspect}, which has ended "
            f"{reading.suspicion.deaths} processes: python -m services.sender skip --partition {tp.partition} "
            f"--offset {reading.suspicion.suspect}"
            for tp, reading in held
        )

    async def _enter(self, tp: Partition, head: int) -> _Reading:
        known, holder = await self._store.find(tp.topic, tp.partition)
        died = holder is not None and holder != self._name
        suspicion = assess(known, head, died=died)
        if suspicion.deaths and died:
            log.warning(
                "partition's last reader died",
                partition=tp.partition,
                offset=suspicion.suspect,
                deaths=suspicion.deaths,
            )
        reading = self._readings[tp] = _Reading(suspicion)
        await self._write(tp, suspicion)
        return reading

    async def _try(self, tp: Partition, offset: int) -> None:
        await self._write(tp, replace(self._readings[tp].suspicion, trying=offset))

    async def _write(self, tp: Partition, suspicion: Suspicion) -> None:
        await self._store.save(tp.topic, tp.partition, suspicion, self._name)
        if tp in self._readings:
            self._readings[tp].suspicion = suspicion

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            with contextlib.suppress(Unavailable):
                for tp, reading in list(self._readings.items()):
                    ticket = reading.held
                    if ticket and await self._store.is_skipped(tp.topic, tp.partition, ticket.offset):
                        deaths = reading.suspicion.deaths
                        await self._write(tp, reading.suspicion.clear())
                        self._forget(tp, reading)
                        self.set_paused(tp, False)
                        self.on_skip(ticket, deaths)

    def _forget(self, tp: Partition, reading: _Reading) -> None:
        if reading.held:
            RECORDS_HELD.remove(tp.partition, reading.held.offset)
            reading.held = None
