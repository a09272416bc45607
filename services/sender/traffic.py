"""How a relay has been doing for the last moments: its pace, whether it is silent, how much to give it. Pure."""

import math

HANGING_S = 1.0
"""A connect that takes longer, while no connection is open, keeps mail from waiting for this relay."""
SILENT_S = 2.0
"""So do commands without an answer, while no mail ends."""
_PRESSED_S = 5.0
_ANY = 1 << 20


class Traffic:
    """Looked at a few times a second. `depth`: mails it may have while another relay could take them as well."""

    def __init__(self) -> None:
        self.depth = _ANY
        self.ended = 0
        self.rate = 0.0  # mails ended per second, of late
        self._seen = 0
        self._looked: float | None = None
        self.last_end = 0.0
        self._opening_since: float | None = None
        self._silent = False
        self._queued = False
        self._pressed_until = -math.inf

    def on_opening(self, now: float) -> None:
        """A connect begins, and no connection is open."""
        if self._opening_since is None:
            self._opening_since = now

    def on_open(self) -> None:
        """A connection is open."""
        self._opening_since = None

    def press(self, now: float) -> None:
        """It could use more than it may."""
        self._pressed_until = now + _PRESSED_S

    def is_pressed(self, now: float) -> bool:
        """Whether it could have used more of late."""
        return now < self._pressed_until

    def is_stalled(self, now: float) -> bool:
        """Whether whoever has another relay should not wait for this one."""
        hangs = self._opening_since is not None and now - self._opening_since > HANGING_S
        return hangs or self._silent

    def look(self, now: float, queued: int, connections: int, full: int, *, opening: bool, silent_s: float) -> None:
        """`queued` mails wait; `full`: what it may have at most; `silent_s`: the longest wait for an answer."""
        passed, ended = now - (now if self._looked is None else self._looked), self.ended - self._seen
        self._looked, self._seen = now, self.ended
        if passed > 0:
            self.rate += (ended / passed - self.rate) * min(1.0, passed)
        if ended:
            self.last_end = now
        if queued:
            self.press(now)
            if self._queued:  # all the time since
                self.depth = max(connections, min(full, 2 * ended))
        else:
            self.depth = max(1, min(full, self.depth * 2))
        self._queued = queued > 0
        if not opening:
            self._opening_since = None
        self._silent = silent_s > SILENT_S and now - self.last_end > SILENT_S
