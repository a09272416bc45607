"""One relay: a pool of connections fed from one queue, with a breaker for when nobody answers (P10).

A mail meets a connection only once that is open, so a relay that is away burns no attempt; and a mail that met the
relay's own trouble before its content was written is taken back. What waits is in feed.py, how many may begin in
throttle.py, what connections tell and what follows in hearing.py, how they come to be in reaching.py.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable

from services.sender.breaker import Breaker, BreakerPolicy, Gate
from services.sender.conversation import Timeouts
from services.sender.feed import Feed, Hooks
from services.sender.hearing import Hearing
from services.sender.lines import Address, Opened
from services.sender.pacing import TICK_S, UNLIMITED
from services.sender.parcel import Parcel
from services.sender.pool import Pool
from services.sender.shares import Share
from services.sender.throttle import Throttle
from services.sender.traffic import Traffic

CLAIMS_PER_CONNECTION = 16
_QUIET_TICK_S = 0.25
_CHECK_S = 1.0  # between two looks at whether what waits may still be written


class Relay:
    """Sends parcels over at most `connections` connections, `mails_per_connection` over each. See also Hooks."""

    def __init__(
        self,
        address: Address,
        connect: Callable[..., Awaitable[Opened]],
        *,
        connections: int,
        timeouts: Timeouts,
        on_returned: Callable[[list[Parcel]], None] = lambda _: None,
        on_ready: Callable[[], None] = lambda: None,
        breaker: BreakerPolicy | None = None,
        mails_per_connection: int | None = None,
        claims_per_connection: int = CLAIMS_PER_CONNECTION,
    ) -> None:
        self.address = address
        self.hooks = Hooks(on_returned, on_ready)
        self.breaker = Breaker(breaker or BreakerPolicy())
        self._feed = Feed(connections, claims_per_connection, self.breaker, self.hooks)
        self._hearing = Hearing(address, connect, timeouts, mails_per_connection or UNLIMITED, self._feed)
        self._task: asyncio.Task[None] | None = None

    # --- its life ---

    async def start(self) -> None:
        """Begin watching deadlines; connections are opened when there is mail."""
        self._task = asyncio.create_task(self._watch(), name="relay-watch")

    async def stop(self) -> None:
        """End the connections, politely where no mail is on them; the mail of the others becomes what it is (P6)."""
        self._hearing.reaching.stopping = True
        if self._task:
            self._task.cancel()
        await self.pool.stop()

    # --- how it is ---

    @property
    def name(self) -> str:
        """As in the settings."""
        return self.address.name

    @property
    def pool(self) -> Pool:
        """Its connections."""
        return self._hearing.pool

    @property
    def throttle(self) -> Throttle:
        """How many mails may begin."""
        return self._feed.throttle

    @property
    def traffic(self) -> Traffic:
        """How it has been doing of late."""
        return self._hearing.traffic

    @property
    def connections(self) -> int:
        """How many this process may have open now."""
        return self.throttle.connections

    @property
    def rate(self) -> float | None:
        """Mails per second that may begin now; None: no limit."""
        return self.throttle.rate

    @property
    def utf8(self) -> bool | None:
        """Whether it announces SMTPUTF8; None before the first connection."""
        return self._hearing.utf8

    @property
    def last_error(self) -> str | None:
        """Its last trouble, for people."""
        return self._hearing.last_error

    @property
    def available(self) -> bool:
        """False while the breaker is open, or the relay wants no mail at all: nothing is to be claimed for it."""
        return self._feed.available

    @property
    def load(self) -> int:
        """Mails it has: queued and on the wire."""
        return self._feed.load

    @property
    def open_connections(self) -> int:
        """Those being opened among them."""
        return self.pool.size

    @property
    def busy_connections(self) -> int:
        """Those that carry mail, or are about to."""
        return self.pool.size - len(self.pool.idle)

    @property
    def capacity(self) -> int:
        """Mails it may have at once; 0: nothing can begin."""
        return self._feed.capacity

    def room(self, now: float) -> int:
        """How many more it takes on now, where there are other relays: no more than it can begin soon."""
        capacity = self.capacity
        if not capacity or self.is_stalled(now):
            return 0
        room = min(capacity, max(self.traffic.depth, self.connections)) - self.load
        rate = self.rate
        return room if rate is None else min(room, math.ceil(rate * _QUIET_TICK_S) - len(self._feed.queue))

    def is_stalled(self, now: float) -> bool:
        """Whether it is silent, though nothing has failed yet: a connect that hangs, commands without an answer."""
        return self.traffic.is_stalled(now)

    def count_waiting(self, since: float) -> int:
        """Mails that have waited since before that monotonic time."""
        return sum(1 for parcel in self._feed.queue if parcel.queued < since)

    def describe_fault(self) -> str | None:
        """What keeps mail from it, for people; None where nothing does."""
        if self.breaker.gate is Gate.OPEN:
            return f"relay {self.name} is unavailable, probing: {self.last_error}"
        return f"relay {self.name} takes no mail for now: {self.last_error}" if self.throttle.paused else None

    # --- what others ask of it ---

    def submit(self, parcels: Iterable[Parcel]) -> None:
        """Queue parcels; each gets its ending through its own `on_done`, or comes back through `on_returned`."""
        self._feed.queue.extend(parcels)
        self._hearing.move_on()

    def give_up(self, count: int) -> list[Parcel]:
        """Up to `count` mails that have not begun, those first that wait longest."""
        return self._feed.give_up(count)

    def recall(self, unwanted: Callable[[Parcel], bool]) -> list[Parcel]:
        """What is queued and not to be sent now."""
        return self._feed.recall(unwanted)

    def begin_no_more(self) -> None:
        """Give back what is queued, now and from now on; what is on the wire goes on to its end."""
        self._feed.closing = True
        self._feed.give_back()

    def set_share(self, share: Share, until: float = math.inf) -> None:
        """What this process may use until the monotonic time `until`; connections beyond it close as they fall idle."""
        now, feed = time.monotonic(), self._feed
        more = feed.throttle.set_share(share, until) or not feed.allowance
        resumes = feed.throttle.look(now)
        self.pool.end_surplus()
        feed.grant(now)
        if resumes:
            self._hearing.on_resumed()
        self._hearing.move_on()
        if more:
            self.hooks.on_ready()

    # --- as time passes ---

    async def _watch(self) -> None:
        looked = checked = 0.0
        while True:
            await asyncio.sleep(_QUIET_TICK_S if self.rate is None else TICK_S)
            now = time.monotonic()
            self._tick(now)
            if now - looked >= _QUIET_TICK_S:
                looked = now
                self._hearing.look(now)
            if now - checked >= _CHECK_S:
                checked = now
                self._feed.end_forbidden()

    def _tick(self, now: float) -> None:
        feed = self._feed
        resumes = feed.throttle.look(now)
        feed.grant(now)
        if resumes:
            self._hearing.on_resumed()
        if feed.queue:
            self._hearing.move_on()
