"""How many mails may begin at a relay: this process's share of its limits, and what the relay itself asks for. Pure."""

import math

from services.sender.pacing import UNLIMITED, Brake, Complaints, Pacer, slower_of
from services.sender.shares import Share


class Throttle:
    """Asked at every tick what may begin until the next one."""

    def __init__(self, connections: int) -> None:
        self.share = Share(connections)
        self.brake = Brake()
        self.lapsed = False
        """The share has ended, and no other has come."""
        self.paused = False
        """The relay has asked for no mail at all for some time."""
        self._share_until = math.inf
        self._paused_until = -math.inf
        self._pacer = Pacer()
        self._complaints = Complaints()

    @property
    def rate(self) -> float | None:
        """Mails per second that may begin now; None: no limit."""
        return slower_of(self.share.rate, self.brake.rate)

    @property
    def connections(self) -> int:
        """How many may be open now."""
        return self.share.connections

    def set_share(self, share: Share, until: float) -> bool:
        """What may be used until the monotonic time `until`. Returns whether that is more connections."""
        more = share.connections > self.share.connections
        self.share, self._share_until = share, until
        return more

    # --- what the relay asks for ---

    def complain(self, now: float, ended: int, rate: float, *, explicit: bool) -> bool:
        """An answer may mean that mail comes too fast: the `ended`-th, at `rate` a second. Returns whether it cuts."""
        if rate < 1.0:  # so few can hardly be too many
            return False
        if not self._complaints.hear(now, ended, explicit=explicit) or not self.brake.press(now, rate):
            return False
        self._pacer.reset()
        return True

    def pause(self, now: float, seconds: float) -> bool:
        """The relay wants nothing for so long. Returns whether that is news."""
        news = not self.paused
        self._paused_until = max(self._paused_until, now + seconds)
        self.paused = True
        return news

    def look(self, now: float) -> bool:
        """Time passes. Returns whether a pause has just ended."""
        self.lapsed = now > self._share_until
        ended = self.paused and now >= self._paused_until
        if ended:
            self.paused = False
        return ended

    # --- what may begin ---

    def grant(self, now: float, unused: int) -> int:
        """Mails until the next tick; `unused`: what is left of the last grant."""
        if self.lapsed or self.paused or not self.share.connections:
            return 0
        rate = self.rate
        if rate is None:
            return UNLIMITED
        return self._pacer.grant(rate, 0 if unused > UNLIMITED // 2 else unused, now)
