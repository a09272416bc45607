"""How long a request may take to arrive: whoever sends a byte now and then would hold memory for as long as he likes.

The rule is that of Apache's mod_reqtimeout: some seconds for all of it, head and body, and more for what does come. But
never more than as many seconds of silence: who has sent much gains no time to hold it. While it is we who take nothing
from the connection (an upload waits until what has come of it is stored), nothing is held against the caller.
"""

import asyncio
from collections.abc import Callable

SLOWEST = 16 * 1024
"""Bytes a second: for each so many that have come a request gets a second more."""


class Arrival:
    """Watches one connection. `on_late` is called once, with whether anything of a request has come.

    The connection says what comes by `note`; only for a request that does not come whole in one piece is a timer set.
    `is_held`: whether nothing is taken from the connection at the moment.
    """

    __slots__ = ("_began", "_grace_s", "_heard", "_is_held", "_loop", "_on_late", "_received", "_timer")

    def __init__(
        self, grace_s: float, on_late: Callable[[bool], None], is_held: Callable[[], bool] = lambda: False
    ) -> None:
        self._grace_s = grace_s
        self._on_late = on_late
        self._is_held = is_held
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._began = self._heard = 0.0
        self._received = 0

    def begin(self) -> None:
        """Somebody has connected, and is to send a request."""
        self._began = self._heard = self._loop.time()
        self._received = 0
        self._timer = self._loop.call_later(self._grace_s, self._judge)

    def note(self, size: int, *, is_whole: bool) -> None:
        """So many bytes have come; `is_whole`: nothing of a request is outstanding now."""
        if is_whole:
            if self._timer is not None:
                self.end()
            return
        if self._timer is None:
            self.begin()
        self._heard = self._loop.time()
        self._received += size

    def end(self) -> None:
        """Nothing is to be waited for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _judge(self) -> None:
        end = min(self._began + self._received / SLOWEST, self._heard) + self._grace_s
        left_s = end - self._loop.time()
        if self._is_held():
            self._began = self._heard = self._loop.time()
            left_s = self._grace_s
        if left_s > 0.001:
            self._timer = self._loop.call_later(left_s, self._judge)
        else:
            self._timer = None
            self._on_late(self._received > 0)
