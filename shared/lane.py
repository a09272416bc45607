"""The lane: bounded concurrency inside a process, offsets only from the head of each partition (P8).

A consumer submits events in the order of each partition; work ends in any order; an offset becomes committable only
when everything before it is done. Knows nothing of Kafka's client: `shared/consuming` ties it to Faust.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from shared.metrics import LANE_ABANDONED, LANE_BYTES, LANE_IN_FLIGHT, LANE_OLDEST_SECONDS

Event = TypeVar("Event")


class Ticket(Generic[Event]):
    """One event's place in its partition, held until its outcome is settled, published and acknowledged.

    `shares`: how many pieces of work have to end before it is done; whoever reads the event may raise it.
    """

    __slots__ = ("done", "event", "generation", "offset", "partition", "read", "shares", "since", "size")

    def __init__(self, event: Event, partition: Any, offset: int, size: int, generation: int, since: float) -> None:
        self.event = event
        self.partition = partition
        self.offset = offset
        self.size = size
        self.generation = generation
        self.since = since
        self.read = False  # what it holds has been looked at, and nothing came of it
        self.shares = 1
        self.done = False


class Lane(Generic[Event]):
    """`begin` gets each ticket as it enters, must not block; `acknowledge` each event as its offset becomes safe.

    `limit`: tickets not done at once. `backlog`: tickets done but waiting behind an unfinished one, per process.
    """

    def __init__(
        self,
        begin: Callable[[Ticket[Event]], None],
        acknowledge: Callable[[Event], None],
        *,
        limit: int = 512,
        backlog: int = 10_000,
    ) -> None:
        self.heads: dict[Any, int] = {}  # partition → next offset to commit; the committer takes entries out
        self.generation = 0
        self.buffered_bytes = 0  # of events fetched and not yet acknowledged
        self.last_progress = time.monotonic()
        self.closing_since: float | None = None  # monotonic time at which the process began to drain
        self.at_work: Callable[[], bool] = lambda: self.busy  # narrowed by who knows what has begun
        self.on_close: Callable[[], None] = lambda: None  # begin nothing more
        self.on_abandon: Callable[[], None] = lambda: None  # tickets of the last generation are nobody's now
        self.on_hold: set[Any] = set()  # partitions whose head waits for an operator
        self._begin = begin
        self._acknowledge = acknowledge
        self._limit = limit
        self._backlog = backlog
        self._open = 0
        self._held = 0
        self._fifo: defaultdict[Any, deque[Ticket[Event]]] = defaultdict(deque)
        self._room = asyncio.Event()
        self._room.set()

    @property
    def busy(self) -> bool:
        """Whether any ticket is not acknowledged, those behind a head that waits for an operator left out."""
        if not self.on_hold:
            return self._held > 0
        return any(queue and partition not in self.on_hold for partition, queue in self._fifo.items())

    @property
    def oldest_s(self) -> float:
        """Age in seconds of the oldest ticket; 0.0 when empty."""
        heads = [queue[0].since for queue in self._fifo.values() if queue]
        return time.monotonic() - min(heads) if heads else 0.0

    async def submit(
        self, event: Event, partition: Any, offset: int, size: int, generation: int | None = None
    ) -> Ticket[Event] | None:
        """Take the event in, waiting while the lane is full: this is the backpressure.

        An event whose assignment (`generation`, by default the present one) has ended, or ends while it waits, is
        dropped (None); somebody else will get it.
        """
        if generation is None:
            generation = self.generation
        elif generation != self.generation:
            return None
        while self._open >= self._limit or self._held >= self._backlog:
            self._room.clear()
            await self._room.wait()
            if generation != self.generation:
                return None
        if not self._held:
            self.last_progress = time.monotonic()
        ticket = Ticket(event, partition, offset, size, generation, time.monotonic())
        self._fifo[partition].append(ticket)
        self._open += 1
        self._held += 1
        self._begin(ticket)
        return ticket

    def is_current(self, ticket: Ticket[Event]) -> bool:
        """False once the ticket's assignment has ended: what has not begun is to be dropped."""
        return ticket.generation == self.generation

    def finish(self, ticket: Ticket[Event]) -> None:
        """One share of the ticket is settled and published. Acknowledges from the head of its partition forward."""
        ticket.shares -= 1
        if ticket.shares > 0 or ticket.done:
            return
        ticket.done = True
        if ticket.generation != self.generation:
            return  # settled, but not ours to acknowledge any more
        self._open -= 1
        self._advance(ticket.partition)
        self._room.set()

    def _advance(self, partition: Any) -> None:
        queue = self._fifo[partition]
        while queue and queue[0].done:
            head = queue.popleft()
            self._held -= 1
            self.buffered_bytes = max(0, self.buffered_bytes - head.size)
            self.heads[partition] = head.offset + 1
            self._acknowledge(head.event)
            self.last_progress = time.monotonic()

    def close(self) -> None:
        """The process drains: whoever feeds the same work from elsewhere is to stop, too."""
        if self.closing_since is None:
            self.closing_since = time.monotonic()
            self.on_close()

    def show_state(self) -> None:
        """Set the lane's gauges; now and then is enough."""
        LANE_IN_FLIGHT.set(self._open)
        LANE_BYTES.set(self.buffered_bytes)
        LANE_OLDEST_SECONDS.set(self.oldest_s)

    def abandon(self) -> int:
        """Give up every ticket of this generation: none of them will be acknowledged. Returns how many."""
        left = self._held
        self._fifo.clear()
        self._open = self._held = 0
        self.buffered_bytes = 0
        self.generation += 1
        self.on_hold.clear()
        self._room.set()
        self.on_abandon()
        LANE_ABANDONED.inc(left)
        return left
