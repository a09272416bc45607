"""One stream: what was missed, then what happens, without a seam; and why it ends."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from aiokafka.errors import KafkaError

from shared.events import format_time, read_timestamp
from shared.live.events import Message, read_event
from shared.live.feed import Feed
from shared.live.hub import Hub, LiveUnavailable
from shared.live.past import Past, PastReader
from shared.live.position import Cursor, Position
from shared.live.queueing import Listener, Wants
from shared.live.slots import Slots
from shared.live.streams import GAP, HEARTBEAT, Guard, IsAllowed, Streams, explain_end, tell
from shared.metrics import LIVE_GAPS

_CATCHING_UP_S = 30.0  # others wait for the reader
_CLOSE = 200  # records behind the hub: near enough to be put into the queue while the rest is read


@dataclass(frozen=True, slots=True)
class Request:
    """What a stream is to give, and for how long.

    `since`: after which position, None: from now on. `is_allowed` is asked every 5 s; `stopping` is set when the
    process is to stop.
    """

    account: str
    wants: Wants
    since: Position | None
    is_allowed: IsAllowed
    stopping: asyncio.Event | None = None


class Live:
    """The streams of a process over one feed. `most_records`: how much of it is read again for one that resumes."""

    def __init__(self, feed: Feed, slots: Slots, *, most_records: int) -> None:
        self._feed = feed
        self._streams = Streams(slots)
        self._hub = Hub(feed)
        self._past = Past(feed, most_records=most_records)

    async def stop(self) -> None:
        """Leave Kafka."""
        self._streams.stop()
        await self._hub.stop()
        await self._past.stop()

    @asynccontextmanager
    async def open(self, request: Request, kind: str) -> AsyncIterator[AsyncIterator[Sequence[Message]]]:
        """A stream, counted by `kind`. Raises TooManyStreams, LiveUnavailable; InvalidPosition for other topics'."""
        listener = Listener(request.account, request.wants)
        with self._streams.hold(listener, kind):
            try:
                await self._hub.acquire()
                if request.since:
                    request.since.reshape(self._hub.cursor.counts)
                self._streams.watch(request.stopping)
                async with aclosing(self._follow(request, listener)) as stream:
                    yield stream
            finally:
                self._hub.remove(listener)
                self._hub.release()

    async def _follow(self, request: Request, listener: Listener) -> AsyncGenerator[Sequence[Message], None]:
        guard = Guard(request.is_allowed, listener)
        until = time.monotonic() + _CATCHING_UP_S
        try:
            async with aclosing(self._catch_up(request.since, listener)) as missed:
                async for messages in missed:
                    yield messages
                    await guard.check()
                    if _is_over(listener) or time.monotonic() > until:
                        listener.end("dropped")
                        break
            place = partial(self._write_place, listener)
            async with aclosing(tell(listener, guard, place)) as happening:
                async for messages in happening:
                    yield messages
        except (LiveUnavailable, KafkaError, TimeoutError):
            listener.end("unavailable")
        yield [explain_end(listener.ended or "unavailable")]

    async def _catch_up(self, since: Position | None, listener: Listener) -> AsyncGenerator[Sequence[Message], None]:
        """Everything after `since` up to where the listener is added to the hub, and then that place."""
        now = self._hub.cursor
        cursor = Cursor(
            now.counts, since.reshape(now.counts) if since else now.offsets, since.at_ms if since else now.at_ms
        )
        if cursor.offsets == now.offsets:
            self._hub.add(listener)
        else:
            async with self._past.reader() as reader, aclosing(self._read_past(reader, cursor, listener)) as missed:
                async for messages in missed:
                    yield messages
        yield [Message(str(cursor), HEARTBEAT, b"{}")]

    async def _read_past(
        self, reader: PastReader, cursor: Cursor, listener: Listener
    ) -> AsyncGenerator[Sequence[Message], None]:
        places = self._hub.places
        start, has_gap = await reader.find_start(places, cursor.offsets, list(self._hub.cursor.offsets))
        if has_gap:
            LIVE_GAPS.inc()
            cursor.move_to(start)
            yield [Message(str(cursor), GAP, _describe_gap(cursor.at_ms))]
        added = False
        while not added:
            end = list(self._hub.cursor.offsets)
            added = sum(max(theirs - ours, 0) for ours, theirs in zip(cursor.offsets, end, strict=True)) <= _CLOSE
            if added:
                listener.skip_below = {number: ours for number, ours in enumerate(cursor.offsets) if ours > end[number]}
                self._hub.add(listener)
            async with aclosing(reader.read(places, list(cursor.offsets), end)) as lots:
                async for lot in lots:
                    if _is_over(listener):
                        return
                    if messages := self._pick(lot, cursor, listener):
                        yield messages
            for number, offset in enumerate(end):
                cursor.advance(number, offset, cursor.at_ms)
            if self._hub.places != places:
                listener.end("moved")
                return

    def _pick(self, lot: list[tuple[int, Any]], cursor: Cursor, listener: Listener) -> list[Message]:
        picked = []
        for place, record in lot:
            cursor.advance(place, record.offset + 1, record.timestamp)
            event = read_event(record, self._feed.event_limit)
            if event and event.account == listener.account and listener.wants(event):
                picked.append(Message(str(cursor), event.type, event.payload))
        return picked

    def _write_place(self, listener: Listener) -> str:
        return listener.write_id(self._hub.cursor)


def _is_over(listener: Listener) -> bool:
    """Whether reading what was missed has no point: one who is dropped by what comes meanwhile still gets it."""
    return listener.ended not in (None, "dropped")


def _describe_gap(at_ms: int) -> bytes:
    detail = "Events after missing_from are not in the history any more; look the mails up."
    return orjson.dumps({"missing_from": format_time(read_timestamp(at_ms)), "detail": detail})
