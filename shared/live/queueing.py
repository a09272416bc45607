"""What waits for one listener: bounded, and given up as a whole where he does not keep up."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from shared.live.events import LiveEvent, Message
from shared.live.position import Cursor

MOST_MESSAGES, MOST_BYTES = 1000, 2 * 1024 * 1024
_BESIDE = 200  # bytes of a message beside its payload
_TAKEN_BYTES = 128 * 1024  # at once: what was taken is counted no more

Wants = Callable[[LiveEvent], bool]


class Listener:
    """One stream's share of the hub. `wants`: which of the account's events it gets.

    `skip_below`: offsets, by place, before which it has had everything: another process was further than this one.
    """

    def __init__(
        self, account: str, wants: Wants, *, most_messages: int = MOST_MESSAGES, most_bytes: int = MOST_BYTES
    ) -> None:
        self.account = account
        self.wants = wants
        self.skip_below: dict[int, int] = {}
        self.ended: str | None = None
        self._most_messages = most_messages
        self._most_bytes = most_bytes
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._woken = asyncio.Event()

    def write_id(self, cursor: Cursor) -> str:
        """The id of where the listener is once it has had everything that lies before the hub's `cursor`."""
        if not self.skip_below:
            return str(cursor)
        self.skip_below = {place: least for place, least in self.skip_below.items() if least > cursor.offsets[place]}
        return str(cursor.raise_to(self.skip_below))

    def offer(self, message: Message) -> bool:
        """Put a message where the stream finds it. False where it has too many waiting: then it is ended."""
        if self.ended:
            return True
        self._waiting.append(message)
        self._bytes += len(message.payload) + _BESIDE
        self._woken.set()
        if len(self._waiting) <= self._most_messages and self._bytes <= self._most_bytes:
            return True
        self.end("dropped")
        return False

    def replace(self, message: Message) -> None:
        """What waits is outdated by this message."""
        self._waiting.clear()
        self._bytes = 0
        self.offer(message)

    def end(self, why: str) -> None:
        """Nothing more will come, and what waits is let go; the first reason counts."""
        if self.ended is None:
            self.ended = why
            self._waiting.clear()
            self._bytes = 0
            self._woken.set()

    async def take(self, timeout_s: float) -> Sequence[Message]:
        """What waits, as soon as something does, a piece at a time; nothing after `timeout_s`, or at the end."""
        if not self._waiting and self.ended is None:
            self._woken.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._woken.wait()
            except TimeoutError:
                return ()
        taken: list[Message] = []
        size = 0
        while self._waiting and size < _TAKEN_BYTES:
            message = self._waiting.popleft()
            taken.append(message)
            size += len(message.payload) + _BESIDE
        self._bytes -= size
        return taken
