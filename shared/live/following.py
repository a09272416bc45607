"""One stream: what was missed, then what happens, without a seam; and why it ends."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
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
from shared.metrics import LIVE_GAPS

HEARTBEAT, GAP = "heartbeat", "gap"
_HEARTBEAT_S = 15.0
_CHECK_S = 5.0  # a key that was revoked, looked up afresh after 3 s, ends its streams within 10
_CATCHING_UP_S = 30.0  # others wait for the reader
_CLOSE = 200  # records behind the hub: near enough to be put into the queue while the rest is read

CONTROLS = frozenset({HEARTBEAT, GAP, "dropped", "closed"})
"""Types of messages that are no events."""

CLOSE_CODES = {"dropped": 1013, "shutdown": 1012, "key": 1008, "moved": 1012, "lost": 1012, "unavailable": 1013}
"""WebSocket close codes (RFC 6455 §7.4.1, and IANA's registry) by reason."""

_DETAILS = {
    "dropped": "This reader did not keep up. Connect again with the last id; read faster, or filter.",
    "shutdown": "This process stops. Connect again with the last id.",
    "key": "The API key was revoked, has expired or lost its scope.",
    "moved": "The topics have more partitions now. Connect again with the last id.",
    "lost": "Events were deleted before they were read. Connect again with the last id.",
    "unavailable": "Kafka does not answer. Connect again with the last id.",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What a stream is to give, and for how long.

    `since`: after which position, None: from now on. `is_allowed` is asked every 5 s; `stopping` is set when the
    process is to stop.
    """

    account: str
    wants: Wants
    since: Position | None
    is_allowed: Callable[[], Awaitable[bool]]
    stopping: asyncio.Event | None = None


class Live:
    """The streams of a process over one feed. `most_records`: how much of it is read again for one that resumes."""

    def __init__(self, feed: Feed, slots: Slots, *, most_records: int) -> None:
        self._feed = feed
        self._slots = slots
        self._hub = Hub(feed)
        self._past = Past(feed, most_records=most_records)
        self._listeners: set[Listener] = set()
        self._watching: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Leave Kafka."""
        if self._watching:
            self._watching.cancel()
        await self._hub.stop()
        await self._past.stop()

    @asynccontextmanager
    async def open(self, request: Request, kind: str) -> AsyncIterator[AsyncIterator[Sequence[Message]]]:
        """A stream, counted by `kind`. Raises TooManyStreams, LiveUnavailable; InvalidPosition for other topics'."""
        with self._slots.hold(request.account, kind):
            listener = Listener(request.account, request.wants)
            self._listeners.add(listener)
            try:
                await self._hub.acquire()
                if request.since:
                    request.since.reshape(self._hub.cursor.counts)
                self._watch(request.stopping)
                async with aclosing(self._follow(request, listener)) as stream:
                    yield stream
            finally:
                self._hub.remove(listener)
                self._hub.release()
                self._listeners.discard(listener)

    def _watch(self, stopping: asyncio.Event | None) -> None:
        """One task for all streams: at the end of the process every one is to end at once."""
        if stopping and not self._watching:
            self._watching = asyncio.create_task(self._end_at(stopping), name="live-stopping")
        elif stopping and stopping.is_set():
            self._end_all()

    async def _end_at(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._end_all()

    def _end_all(self) -> None:
        for listener in self._listeners:
            listener.end("shutdown")

    async def _follow(self, request: Request, listener: Listener) -> AsyncGenerator[Sequence[Message], None]:
        guard = _Guard(request.is_allowed, listener)
        until = time.monotonic() + _CATCHING_UP_S
        try:
            async with aclosing(self._catch_up(request.since, listener)) as missed:
                async for messages in missed:
                    yield messages
                    await guard.check()
                    if _is_over(listener) or time.monotonic() > until:
                        listener.end("dropped")
                        break
            async with aclosing(self._go_on(listener, guard)) as happening:
                async for messages in happening:
                    yield messages
        except (LiveUnavailable, KafkaError, TimeoutError):
            listener.end("unavailable")
        yield [_end(listener.ended or "unavailable")]

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

    async def _go_on(self, listener: Listener, guard: "_Guard") -> AsyncGenerator[Sequence[Message], None]:
        told_at = time.monotonic()
        while listener.ended is None:
            messages = await listener.take(_CHECK_S)
            if not messages and listener.ended is None and time.monotonic() - told_at >= _HEARTBEAT_S:
                # Nothing waits, so the listener has had whatever lies before the hub's place.
                messages = [Message(listener.write_id(self._hub.cursor), HEARTBEAT, b"{}")]
            if messages:
                yield messages
                told_at = time.monotonic()
            await guard.check()


class _Guard:
    """Ends a stream whose key may not have it any more."""

    def __init__(self, is_allowed: Callable[[], Awaitable[bool]], listener: Listener) -> None:
        self._is_allowed = is_allowed
        self._listener = listener
        self._checked_at = time.monotonic()

    async def check(self) -> None:
        """Ask, where the last answer is old."""
        if time.monotonic() - self._checked_at >= _CHECK_S:
            self._checked_at = time.monotonic()
            if not await self._is_allowed():
                self._listener.end("key")


def _is_over(listener: Listener) -> bool:
    """Whether reading what was missed has no point: one who is dropped by what comes meanwhile still gets it."""
    return listener.ended not in (None, "dropped")


def _end(reason: str) -> Message:
    payload = orjson.dumps({"reason": reason, "detail": _DETAILS[reason]})
    return Message("", "dropped" if reason == "dropped" else "closed", payload)


def _describe_gap(at_ms: int) -> bytes:
    detail = "Events after missing_from are not in the history any more; look the mails up."
    return orjson.dumps({"missing_from": format_time(read_timestamp(at_ms)), "detail": detail})
