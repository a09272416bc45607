"""The open streams of a process, whatever they tell: how many there may be, heartbeats, and why each ends."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import orjson

from shared.live.events import Message
from shared.live.queueing import Listener
from shared.live.slots import Slots

HEARTBEAT, GAP = "heartbeat", "gap"
_HEARTBEAT_S = 15.0
_CHECK_S = 5.0  # a key that was revoked, looked up afresh after 3 s, ends its streams within 10

CONTROLS = frozenset({HEARTBEAT, GAP, "dropped", "closed"})
"""Types of messages that are no events."""

CLOSE_CODES = {
    "dropped": 1013,
    "shutdown": 1012,
    "key": 1008,
    "moved": 1012,
    "lost": 1012,
    "unavailable": 1013,
    "gone": 1000,
}
"""WebSocket close codes (RFC 6455 §7.4.1, and IANA's registry) by reason."""

_DETAILS = {
    "dropped": "This reader did not keep up. Connect again with the last id; read faster, or filter.",
    "shutdown": "This process stops. Connect again with the last id.",
    "key": "The API key was revoked, has expired or lost its scope.",
    "moved": "The topics have more partitions now. Connect again with the last id.",
    "lost": "Events were deleted before they were read. Connect again with the last id.",
    "unavailable": "Kafka does not answer. Connect again with the last id.",
    "gone": "What was watched was deleted. There is nothing to connect again for.",
}

IsAllowed = Callable[[], Awaitable[bool]]


class Streams:
    """Holds listeners to their number, and ends all of them when the process is to stop."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._listeners: set[Listener] = set()
        self._watching: asyncio.Task[None] | None = None

    @contextmanager
    def hold(self, listener: Listener, kind: str) -> Iterator[None]:
        """One stream, counted by `kind`. Raises TooManyStreams."""
        with self._slots.hold(listener.account, kind):
            self._listeners.add(listener)
            try:
                yield
            finally:
                self._listeners.discard(listener)

    def watch(self, stopping: asyncio.Event | None) -> None:
        """One task for all streams: at the end of the process every one is to end at once."""
        if stopping and not self._watching:
            self._watching = asyncio.create_task(self._end_at(stopping), name="live-stopping")
        elif stopping and stopping.is_set():
            self._end_all()

    def stop(self) -> None:
        """Nobody need be told any more."""
        if self._watching:
            self._watching.cancel()

    async def _end_at(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._end_all()

    def _end_all(self) -> None:
        for listener in self._listeners:
            listener.end("shutdown")


class Guard:
    """Ends a stream whose key may not have it any more."""

    def __init__(self, is_allowed: IsAllowed, listener: Listener) -> None:
        self._is_allowed = is_allowed
        self._listener = listener
        self._checked_at = time.monotonic()

    async def check(self) -> None:
        """Ask, where the last answer is old."""
        if time.monotonic() - self._checked_at >= _CHECK_S:
            self._checked_at = time.monotonic()
            if not await self._is_allowed():
                self._listener.end("key")


async def tell(
    listener: Listener, guard: Guard, write_place: Callable[[], str]
) -> AsyncGenerator[Sequence[Message], None]:
    """What the listener is offered, until it is ended. `write_place`: where it is while nothing happens."""
    told_at = time.monotonic()
    while listener.ended is None:
        messages = await listener.take(_CHECK_S)
        if not messages and listener.ended is None and time.monotonic() - told_at >= _HEARTBEAT_S:
            # Nothing waits, so the listener has had whatever lies before this place.
            messages = [Message(write_place(), HEARTBEAT, b"{}")]
        if messages:
            yield messages
            told_at = time.monotonic()
        await guard.check()


def explain_end(reason: str) -> Message:
    """The last message of a stream that is ended before there is nothing more to tell."""
    payload = orjson.dumps({"reason": reason, "detail": _DETAILS[reason]})
    return Message("", "dropped" if reason == "dropped" else "closed", payload)
