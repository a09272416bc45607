"""One Kafka reader for all listeners of a process. It runs while somebody listens, and for half a minute after."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from shared.live.events import LiveEvent, Message, read_event
from shared.live.feed import AT_ONCE, Feed
from shared.live.position import Cursor
from shared.live.queueing import Listener
from shared.metrics import LIVE_DROPPED
from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

_LINGER_S = 30.0  # a page that is loaded again finds the reader at work
_PATIENCE_S = 5.0
_PAUSE_S = 1.0


class LiveUnavailable(Unavailable):
    """Kafka cannot be read at the moment."""


class Hub:
    """Reads the feed from its end on and offers each event to the listeners of its account.

    Losing Kafka it goes on where it was once Kafka is back: listeners wait, and miss nothing.
    """

    def __init__(self, feed: Feed, *, linger_s: float = _LINGER_S) -> None:
        self._feed = feed
        self._linger_s = linger_s
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._users = 0
        self._task: asyncio.Task[None] | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()
        self._cursor: Cursor | None = None
        self.places: Sequence[TopicPartition] = ()
        self._numbers: dict[TopicPartition, int] = {}

    async def acquire(self) -> None:
        """Have the reader run and wait until it knows where it is. Raises LiveUnavailable; release() in any case."""
        self._users += 1
        if self._closing:
            self._closing.cancel()
            self._closing = None
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="live-hub")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._ready.wait()
        except TimeoutError:
            raise LiveUnavailable("kafka does not answer") from None

    def release(self) -> None:
        """One user less; the last one lets the reader stop, after a while."""
        self._users -= 1
        if not self._users and self._task:
            self._closing = asyncio.get_running_loop().call_later(self._linger_s, self._close)

    @property
    def cursor(self) -> Cursor:
        """How far the reader is: whoever is added now gets everything from there on. Raises LiveUnavailable."""
        if self._cursor is None:
            raise LiveUnavailable("the place in kafka is not known")
        return self._cursor

    def add(self, listener: Listener) -> None:
        """From now on the listener is offered its account's events."""
        self._listeners[listener.account].add(listener)

    def remove(self, listener: Listener) -> None:
        """It is offered nothing more; one that was never added is no error."""
        if listener.account in self._listeners:
            self._listeners[listener.account].discard(listener)
            if not self._listeners[listener.account]:
                del self._listeners[listener.account]

    async def stop(self) -> None:
        """Stop reading."""
        task = self._close()
        if task:
            await asyncio.wait([task])

    def _close(self) -> asyncio.Task[None] | None:
        task, self._task = self._task, None
        if self._closing:
            self._closing.cancel()
            self._closing = None
        self._ready.clear()
        self._cursor = None  # the next reader begins at the end; who resumes reads what lies before it
        if task:
            task.cancel()
        return task

    async def _run(self) -> None:
        while True:
            try:
                async with self._feed.connect() as consumer:
                    await self._find_place(consumer)
                    self._ready.set()
                    while await self._read(consumer):
                        await asyncio.sleep(0)  # the streams write what they were offered before more comes
            except OffsetOutOfRangeError:
                log.warning("live events were lost: retention was faster, streams are ended")
                self._cursor = None
                self._end_all("lost")
            except (KafkaError, OSError) as exc:
                log.warning("live events: kafka unreachable, trying again", error=type(exc).__name__)
            await asyncio.sleep(_PAUSE_S)

    async def _find_place(self, consumer: Any) -> None:
        """Begin at the end, or go on where the reader was; partitions that came since from their beginning."""
        assigned = consumer.assignment()
        self.places = sorted(assigned, key=lambda each: (self._feed.topics.index(each.topic), each.partition))
        self._numbers = {place: number for number, place in enumerate(self.places)}
        counts = [sum(1 for each in assigned if each.topic == topic) for topic in self._feed.topics]
        known, now_ms = self._cursor, int(time.time() * 1000)
        if known is None:
            ends = await consumer.end_offsets(self.places)
            self._cursor = Cursor(counts, [ends[each] for each in self.places], now_ms)
        elif tuple(counts) != known.counts:
            self._cursor = known.reshape(counts)
            self._end_all("moved")  # their places have other numbers now; they resume by what they were told
        for place, offset in zip(self.places, self.cursor.offsets, strict=True):
            consumer.seek(place, offset)

    async def _read(self, consumer: Any) -> bool:
        """One lot. False once there are more partitions: aiokafka has begun all of them at their ends, then."""
        fetched = await consumer.getmany(timeout_ms=1000, max_records=AT_ONCE)
        if len(consumer.assignment()) != len(self.places):
            return False
        for place, records in fetched.items():
            number = self._numbers[place]
            for record in records:
                self.cursor.advance(number, record.offset + 1, record.timestamp)
                event = read_event(record, self._feed.event_limit) if self._listeners else None
                if event and event.account in self._listeners:
                    self._offer(event, number, record.offset)
        return True

    def _offer(self, event: LiveEvent, place: int, offset: int) -> None:
        common: Message | None = None
        for listener in tuple(self._listeners[event.account]):
            if offset < listener.skip_below.get(place, 0) or not listener.wants(event):
                continue
            if listener.skip_below:  # further than the hub: its ids are its own
                message = Message(listener.write_id(self.cursor), event.type, event.payload)
            else:
                message = common = common or Message(str(self.cursor), event.type, event.payload)
            if not listener.offer(message):
                LIVE_DROPPED.inc()
                self.remove(listener)

    def _end_all(self, why: str) -> None:
        for listener in [each for group in self._listeners.values() for each in group]:
            listener.end(why)
            self.remove(listener)
