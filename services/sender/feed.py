"""What waits for a relay, and how much of it may begin. No I/O."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from services.sender.breaker import Breaker, Gate
from services.sender.pacing import UNLIMITED
from services.sender.parcel import Ending, Parcel
from services.sender.remainder import Remainder, sort_out
from services.sender.throttle import Throttle


@dataclass(slots=True)
class Hooks:
    """What a relay tells whoever gives it mail.

    `on_returned` gets the parcels that did not begin when the breaker opened. `on_ready` is called when more may begin.
    `on_unfit` may take a parcel that this relay cannot carry, but another may.
    """

    on_returned: Callable[[list[Parcel]], None] = lambda _: None
    on_ready: Callable[[], None] = lambda: None
    on_unfit: Callable[[Parcel], bool] = lambda _: False


class Feed:
    """The queue from which all connections of a relay take their mail."""

    def __init__(self, connections: int, claims_per_connection: int, breaker: Breaker, hooks: Hooks) -> None:
        self.queue: deque[Parcel] = deque()
        self.on_wire = 0
        self.allowance = UNLIMITED if connections else 0  # mails that may begin before the next tick
        self.closing = False  # nothing more begins
        self.breaker = breaker
        self.throttle = Throttle(connections)
        self.hooks = hooks
        self._claims_per_connection = claims_per_connection

    @property
    def available(self) -> bool:
        """False while the breaker is open, or the relay wants no mail at all: nothing is to be claimed for it."""
        return self.breaker.gate is not Gate.OPEN and not self.throttle.paused

    @property
    def load(self) -> int:
        """Mails it has: queued and on the wire."""
        return len(self.queue) + self.on_wire

    @property
    def capacity(self) -> int:
        """Mails it may have at once; 0: nothing can begin."""
        throttle = self.throttle
        if not self.available or self.closing or throttle.lapsed or not throttle.connections:
            return 0
        if self.breaker.gate is Gate.TRIAL:
            return 1
        full, rate = throttle.connections * self._claims_per_connection, throttle.rate
        return full if rate is None else min(full, math.ceil(rate))

    def grant(self, now: float) -> None:
        """Say what may begin until the next tick."""
        if not self.available:
            self.allowance = 0
            return
        granted = self.throttle.grant(now, self.allowance)
        if self.breaker.gate is Gate.TRIAL:
            granted = min(granted, max(0, 1 - self.on_wire))
        self.allowance = granted

    def begin_again(self, parcel: Parcel) -> None:
        """Its ending was none: it goes on before all others."""
        parcel.revive()
        self.queue.appendleft(parcel)

    def give_up(self, count: int) -> list[Parcel]:
        """Up to `count` mails that have not begun, those first that wait longest. Remainders stay: they go nowhere."""
        given: list[Parcel] = []
        staying: list[Parcel] = []
        while self.queue and len(given) < count:
            parcel = self.queue.popleft()
            (staying if isinstance(parcel, Remainder) else given).append(parcel)
        self.queue.extendleft(reversed(staying))
        return given

    def recall(self, unwanted: Callable[[Parcel], bool]) -> list[Parcel]:
        """What is queued and not to be sent now."""
        recalled: list[Parcel] = []
        kept: list[Parcel] = []
        for parcel in self.queue:  # each is asked once: the answer may depend on the clock
            (recalled if unwanted(parcel) else kept).append(parcel)
        if recalled:
            self.queue.clear()
            self.queue.extend(kept)
        return sort_out(recalled)

    def give_back(self) -> None:
        """All of it, because nothing can begin."""
        parcels = list(self.queue)
        self.queue.clear()
        if parcels := sort_out(parcels):
            self.hooks.on_returned(parcels)

    def end_forbidden(self) -> None:
        """What has expired here never begins: content that is refused at the last moment costs a connection."""
        for parcel in self.recall(lambda parcel: not parcel.may_write()):
            parcel.carrier = None
            parcel.end(Ending.FORBIDDEN, "it may not be written any more")
