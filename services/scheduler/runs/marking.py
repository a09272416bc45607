"""Ticks that come back from Kafka mark their runs ready; everything else on the topic is passed over, and counted."""

from collections.abc import Callable
from uuid import UUID

import structlog

from services.scheduler.tasks.tick_store import TickStore
from shared.consuming import FaustLane, FaustTicket
from shared.events import EventType, ScheduleTick, UnreadableEvent, open_record, read_header, read_model
from shared.metrics import EVENTS_SKIPPED
from shared.stage import Stage
from shared.turns import take_turns

log = structlog.get_logger(__name__)


class Marking:
    """A part of a process: what enters the lane is marked in groups, and acknowledged."""

    def __init__(self, store: TickStore, event_limit: int) -> None:
        self._store = store
        self._event_limit = event_limit
        self._stage = Stage[FaustTicket]("ticks", self._mark, self._on_bug, limit=500, linger_s=0.002)
        self.lane: FaustLane | None = None
        self.on_ready: Callable[[], None] = lambda: None

    def begin(self, ticket: FaustTicket) -> None:
        """A record has entered the lane."""
        self._stage.put(ticket)

    async def start(self) -> None:
        """Begin taking groups."""
        self._stage.start()

    async def stop(self) -> None:
        """What waits comes again."""
        await self._stage.stop()

    async def _mark(self, tickets: list[FaustTicket]) -> None:
        found: list[UUID] = []
        async for ticket in take_turns(tickets):
            occurrence_id = self._read(ticket)
            if occurrence_id:
                found.append(occurrence_id)
        if found:
            known, marked = await self._store.mark_ready(found)
            EVENTS_SKIPPED.labels(why="foreign").inc(len(set(found)) - known)
            if marked:
                self.on_ready()
        self._finish(tickets)

    def _read(self, ticket: FaustTicket) -> UUID | None:
        """The occurrence of a record, None for what is no tick; it may have been counted before, after an outage."""
        record = ticket.event.record
        try:
            opened = open_record(
                record.value, read_header(record.headers, "ce_type") or EventType.TICK, self._event_limit
            )
            if opened.type is not EventType.TICK:
                EVENTS_SKIPPED.labels(why="type").inc()
                return None
            return read_model(opened, ScheduleTick).occurrence_id
        except UnreadableEvent:
            EVENTS_SKIPPED.labels(why="unreadable").inc()
            return None

    def _on_bug(self, ticket: FaustTicket, exc: Exception) -> None:
        """A run begins without its tick, too: no record is worth a partition that stands still."""
        EVENTS_SKIPPED.labels(why="unreadable").inc()
        self._finish([ticket])

    def _finish(self, tickets: list[FaustTicket]) -> None:
        assert self.lane is not None, "wired before anything enters"
        for ticket in tickets:
            self.lane.finish(ticket)
