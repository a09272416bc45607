"""What lies between where a listener was and where the hub is, read again from Kafka: a bounded stretch of it.

Few readers for all who resume, kept for as long as the hub runs: after a restart everybody comes back at once.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from shared.live.feed import AT_ONCE, Feed
from shared.live.hub import LiveUnavailable

_READERS = 4
_STALLED_S = 10.0
_KEEP_S = 60.0


class Past:
    """Reads stretches of the feed. `most_records`: of one stretch, over all places."""

    def __init__(self, feed: Feed, *, most_records: int) -> None:
        self._feed = feed
        self._most = most_records
        self._turn = asyncio.Semaphore(_READERS)
        self._idle: list[Any] = []
        self._closing: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def reader(self) -> AsyncIterator["PastReader"]:
        """A reader of one's own, as soon as one is free. Raises LiveUnavailable."""
        async with self._turn:
            consumer = self._idle.pop() if self._idle else None
            try:
                if consumer is None:
                    consumer = self._feed.create_consumer(reset="none")
                    await consumer.start()
                yield PastReader(consumer, self._most)
                consumer.unsubscribe()
                self._idle.append(consumer)
                self._keep()
                consumer = None
            except (KafkaError, OSError, TimeoutError) as exc:
                raise LiveUnavailable(f"kafka: {type(exc).__name__}") from exc
            finally:
                if consumer is not None:
                    await asyncio.shield(consumer.stop())

    async def stop(self) -> None:
        """Leave Kafka."""
        if self._closing:
            self._closing.cancel()
        idle, self._idle = self._idle, []
        for consumer in idle:
            await consumer.stop()

    def _keep(self) -> None:
        if self._closing:
            self._closing.cancel()
        self._closing = asyncio.get_running_loop().call_later(_KEEP_S, self._let_go)

    def _let_go(self) -> None:
        task = asyncio.create_task(self.stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


class PastReader:
    """One stretch at a time."""

    def __init__(self, consumer: Any, most_records: int) -> None:
        self._consumer = consumer
        self._most = most_records

    async def find_start(
        self, places: Sequence[TopicPartition], start: Sequence[int], end: Sequence[int]
    ) -> tuple[list[int], bool]:
        """Where reading can begin, and whether something is missing before that.

        Missing is what retention has taken, what is more than may be read, and all that a position from elsewhere
        would stand for: one beyond the topic's end.
        """
        behind = [number for number, (one, other) in enumerate(zip(start, end, strict=True)) if one < other]
        ahead = [number for number, (one, other) in enumerate(zip(start, end, strict=True)) if one > other]
        firsts = await self._consumer.beginning_offsets([places[each] for each in behind]) if behind else {}
        lasts = await self._consumer.end_offsets([places[each] for each in ahead]) if ahead else {}
        found, total = list(start), sum(end[each] - start[each] for each in behind)
        for each in behind:
            allowed = (end[each] - start[each]) * self._most // total if total > self._most else end[each] - start[each]
            found[each] = max(start[each], firsts[places[each]], end[each] - allowed)
        for each in ahead:
            if start[each] > lasts[places[each]]:
                found[each] = end[each]
        return found, found != list(start)

    async def read(
        self, places: Sequence[TopicPartition], start: Sequence[int], end: Sequence[int]
    ) -> AsyncGenerator[list[tuple[int, Any]], None]:
        """The records from `start` up to `end`, with the number of their place, a few at a time.

        Raises KafkaError, and TimeoutError where nothing comes for 10 s.
        """
        stretch = {places[each]: each for each in range(len(places)) if start[each] < end[each]}
        if not stretch:
            return
        self._consumer.assign(list(stretch))
        for place, number in stretch.items():
            self._consumer.seek(place, start[number])
        open_places, moved_at = set(stretch), time.monotonic()
        while open_places:
            found = await self._fetch(stretch, end)
            if found:
                moved_at = time.monotonic()
                yield found
            for place in list(open_places):
                if await self._consumer.position(place) >= end[stretch[place]]:
                    open_places.discard(place)
                    self._consumer.pause(place)
            if time.monotonic() - moved_at > _STALLED_S:
                raise TimeoutError("nothing came")

    async def _fetch(self, stretch: dict[TopicPartition, int], end: Sequence[int]) -> list[tuple[int, Any]]:
        try:
            fetched = await self._consumer.getmany(timeout_ms=100, max_records=AT_ONCE)
        except OffsetOutOfRangeError as exc:  # retention was faster, just now
            raise LiveUnavailable("kafka no longer holds it") from exc
        return [
            (stretch[place], record)
            for place, records in fetched.items()
            for record in records
            if record.offset < end[stretch[place]]
        ]
