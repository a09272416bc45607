"""One relay: a pool of connections fed from one queue, with a breaker for when nobody answers (P10).

A mail meets a connection only once that is open, so a relay that is away burns no attempt; and a mail that met the
relay's own trouble before its content was written is taken back.
"""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import structlog

from services.sender.answers import Kind
from services.sender.breaker import Breaker, BreakerPolicy, Gate
from services.sender.classify import kind_of
from services.sender.connecting import RelayMisconfigured, RelayUnavailable
from services.sender.conversation import Timeouts
from services.sender.lines import Address, Line, Opened
from services.sender.pacing import TICK_S, UNLIMITED, Brake, Pacer, slower_of
from services.sender.parcel import Parcel, Troubles
from services.sender.pool import Pool
from services.sender.shares import Share
from services.sender.tally import Tally, judge
from services.sender.traffic import Traffic

log = structlog.get_logger(__name__)

MAX_REQUEUES = 2  # of one mail after the relay's own trouble; then the trouble may be the mail's, and it is deferred
CLAIMS_PER_CONNECTION = 16
_QUIET_TICK_S = 0.25


class Relay:
    """Sends parcels over at most `connections` connections, `mails_per_connection` over each.

    `on_returned` gets the parcels that did not begin when the breaker opened. `on_ready` is called when more may begin.
    `on_unfit` may take a parcel that this relay cannot carry, but another may.
    """

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
        self.last_error: str | None = None
        self.share = Share(connections)
        self.on_returned = on_returned
        self.on_ready = on_ready
        self.on_unfit: Callable[[Parcel], bool] = lambda _: False
        self.queue: deque[Parcel] = deque()
        self.on_wire = 0
        self._answered = -math.inf  # when it last said something of a mail
        self.allowance = UNLIMITED if connections else 0  # mails that may begin before the next tick
        self.utf8: bool | None = None  # whether it announces SMTPUTF8; None before the first connection
        self.tally = Tally(address.name)
        self.traffic = Traffic()
        self.breaker = Breaker(breaker or BreakerPolicy())
        self.brake = Brake()
        self.pool = Pool(self, address, connect, timeouts, mails_per_connection or UNLIMITED)
        self._claims_per_connection = claims_per_connection
        self._pacer = Pacer()
        self._share_until = math.inf
        self._lapsed = False
        self._no_more_before = 0.0
        self._task: asyncio.Task[None] | None = None
        self._closing = False  # nothing more begins
        self._stopping = False

    # --- its life ---

    async def start(self) -> None:
        """Begin watching deadlines; connections are opened when there is mail."""
        self._task = asyncio.create_task(self._watch(), name="relay-watch")

    async def stop(self) -> None:
        """Close idle connections politely, the others at once: their mail becomes what it is (P6)."""
        self._stopping = True
        if self._task:
            self._task.cancel()
        await self.pool.stop()

    # --- how it is ---

    @property
    def name(self) -> str:
        """As in the settings."""
        return self.address.name

    @property
    def connections(self) -> int:
        """How many this process may have open now."""
        return self.share.connections

    @property
    def available(self) -> bool:
        """False while the breaker is open: nothing is to be claimed for it."""
        return self.breaker.gate is not Gate.OPEN

    @property
    def rate(self) -> float | None:
        """Mails per second that may begin now; None: no limit."""
        return slower_of(self.share.rate, self.brake.rate)

    @property
    def load(self) -> int:
        """Mails it has: queued and on the wire."""
        return len(self.queue) + self.on_wire

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
        if not self.available or self._closing or self._lapsed or not self.share.connections:
            return 0
        if self.breaker.gate is Gate.TRIAL:
            return 1
        full = self.share.connections * self._claims_per_connection
        rate = self.rate
        return full if rate is None else min(full, math.ceil(rate))

    def room(self, now: float) -> int:
        """How many more it takes on now, where there are other relays: no more than it can begin soon."""
        capacity = self.capacity
        if not capacity or self.is_stalled(now):
            return 0
        room = min(capacity, max(self.traffic.depth, self.share.connections)) - self.load
        rate = self.rate
        return room if rate is None else min(room, math.ceil(rate * _QUIET_TICK_S) - len(self.queue))

    def is_stalled(self, now: float) -> bool:
        """Whether it is silent, though nothing has failed yet: a connect that hangs, commands without an answer."""
        return self.traffic.is_stalled(now)

    def describe_fault(self) -> str | None:
        """What keeps mail from it, for people; None while the breaker is closed."""
        if not self.available:
            return f"relay {self.name} is unavailable, probing: {self.last_error}"
        return None

    # --- what others ask of it ---

    def submit(self, parcels: Iterable[Parcel]) -> None:
        """Queue parcels; each gets its ending through its own `on_done`, or comes back through `on_returned`."""
        self.queue.extend(parcels)
        self._move_on()

    def give_up(self, count: int) -> list[Parcel]:
        """Up to `count` mails that have not begun, those first that wait longest."""
        return [self.queue.popleft() for _ in range(min(count, len(self.queue)))]

    def recall(self, unwanted: Callable[[Parcel], bool]) -> list[Parcel]:
        """What is queued and not to be sent now."""
        recalled = [parcel for parcel in self.queue if unwanted(parcel)]
        if recalled:
            kept = [parcel for parcel in self.queue if not unwanted(parcel)]
            self.queue.clear()
            self.queue.extend(kept)
        return recalled

    def begin_no_more(self) -> None:
        """Give back what is queued, now and from now on; what is on the wire goes on to its end."""
        self._closing = True
        self._give_back()

    def set_share(self, share: Share, until: float = math.inf) -> None:
        """What this process may use until the monotonic time `until`; connections beyond it close as they fall idle."""
        more = share.connections > self.share.connections or not self.allowance
        self.share, self._share_until = share, until
        self.pool.end_surplus()
        self._grant(time.monotonic())
        self._move_on()
        if more:
            self.on_ready()

    def takes_back(self, parcel: Parcel) -> bool:
        """A parcel's ending, before anybody else hears of it (parcel.py)."""
        self.on_wire -= 1
        self.traffic.ended += 1
        replies = parcel.replies
        if parcel.content_answered and len(replies) == 1 and (first := replies[0]) and first.code < 300:
            self.tally.sent += 1
            self._answered = time.monotonic()
            if self.breaker.troubled:
                self._on_answered()
            return False
        return self._weigh(parcel)

    # --- what became of a mail ---

    def _weigh(self, parcel: Parcel) -> bool:
        found = judge(parcel)
        self.tally.count(found.outcome)
        if found.silent:
            return False
        if not found.trouble:
            self._on_answered()
        elif self.breaker.on_trouble(operators=found.operators):
            self._on_broken(found.trouble)
        if found.slower:
            self._slow_down()
        if not found.trouble:
            return found.unfit and self.on_unfit(parcel)
        if found.outcome == "broken":
            self.pool.end_idle()
        troubles = parcel.troubles = parcel.troubles or Troubles()
        if not found.returnable or (troubles.count >= MAX_REQUEUES and self.available):
            return False
        troubles.add(self.name, time.monotonic(), self._answered)
        parcel.revive()
        self.queue.appendleft(parcel)
        self._move_on()
        return True

    def _on_answered(self) -> None:
        self._answered = time.monotonic()
        if self.breaker.on_answered():
            self.last_error = None
            log.info("relay takes mail again", relay=self.name)
            self._grant(time.monotonic())
            self.on_ready()

    def _slow_down(self) -> None:
        if not self.available or self.traffic.rate < 1.0:  # the breaker sees to it; so few can hardly be too many
            return
        if self.brake.press(time.monotonic(), self.traffic.rate):
            log.warning("relay asks for fewer mails", relay=self.name, mails_per_s=round(self.brake.rate or 0, 1))
            self._pacer.reset()
            self._grant(time.monotonic())

    # --- feeding ---

    def _move_on(self) -> None:
        """What is queued begins, or goes back where nothing can begin."""
        if self._closing or not self.available:
            self._give_back()
        else:
            self._feed()

    def _feed(self) -> None:
        pool = self.pool
        pool.feed()
        if self.breaker.failures:  # no more bursts until a connection is open again
            self._retry()
            return
        if pool.open and time.monotonic() < self._no_more_before:
            return
        most = 1 if self.breaker.gate is Gate.TRIAL else self.share.connections
        for _ in range(min(most - len(pool.open) - len(pool.opening), len(self.queue), self.allowance)):
            pool.open_one()

    def _retry(self) -> None:
        if self.queue and not self.pool.opening and self.share.connections:
            self.pool.open_one(self.breaker.policy.retry_s)

    def _give_back(self) -> None:
        if self.queue:
            parcels = list(self.queue)
            self.queue.clear()
            self.on_returned(parcels)

    # --- what its connections tell ---

    def on_opened(self, opened: Opened) -> None:
        """A connection has been opened."""
        was_broken = not self.available
        self.breaker.on_connected()
        self.traffic.on_open()
        self.utf8 = opened.utf8
        if was_broken:
            log.info("relay can be reached again", relay=self.name)
        self._grant(time.monotonic())
        self._show_state()
        self._move_on()
        self.on_ready()

    def on_refused(self, exc: RelayUnavailable) -> None:
        """One could not be opened."""
        self.last_error = str(exc)
        if self._stopping:
            return
        if self.pool.open and self.available:  # it takes mail, only not on one more connection
            self._no_more_before = time.monotonic() + self.breaker.policy.more_after_s
            return
        operators = isinstance(exc, RelayMisconfigured)
        if self.breaker.on_refused(operators=operators, others_under_way=bool(self.pool.opening)):
            self._on_broken(self.last_error)
        elif not self.available:
            self._probe()
        else:
            self._retry()

    def _on_broken(self, why: str) -> None:
        self.last_error = why
        log.error("relay unavailable, nothing more is sent there", relay=self.name, error=why)
        self.allowance = 0
        self._show_state()
        self.pool.end_idle()
        self._give_back()
        self._probe()

    def _probe(self) -> None:
        if not self.pool.opening and not self._stopping:
            self.pool.open_one(self.breaker.next_pause_s(random.random()))  # noqa: S311 - spreads probes, no secret

    def on_lost(self, line: Line, untouched: list[Parcel]) -> None:
        """One has ended; `untouched` had not begun."""
        self._show_state()
        self.on_wire -= len(untouched)
        self.queue.extendleft(reversed(untouched))
        if untouched:
            self.pool.end_idle()
        if line.farewell and kind_of(line.farewell) is Kind.RATE_LIMITED:
            self._slow_down()
        if untouched and not self._stopping and self.breaker.on_trouble(operators=False):
            self._on_broken(str(line.farewell or "it ends connections before it takes mail"))
        if self.queue:
            self._move_on()

    # --- as time passes ---

    async def _watch(self) -> None:
        checked = 0.0
        while True:
            await asyncio.sleep(_QUIET_TICK_S if self.rate is None else TICK_S)
            now = time.monotonic()
            self._grant(now)
            if self.queue:
                self._move_on()
            if now - checked >= _QUIET_TICK_S:
                checked = now
                self._look(now)

    def _look(self, now: float) -> None:
        """A few times a second."""
        silent_s = self.pool.look(now)
        if self.pool.dialling and not self.pool.open:
            self.traffic.on_opening(now)
        self.traffic.look(
            now,
            len(self.queue),
            self.share.connections,
            self.capacity,
            opening=self.pool.dialling > 0,
            silent_s=silent_s,
        )
        if self.brake.ease(now):
            log.info("relay has its full rate again", relay=self.name)
        self._show_state()

    def _grant(self, now: float) -> None:
        """What may begin until the next tick."""
        rate = self.rate
        self._lapsed = now > self._share_until
        if not self.available or self._lapsed or not self.share.connections:
            self.allowance = 0
        elif self.breaker.gate is Gate.TRIAL:
            self.allowance = max(0, 1 - self.on_wire)
        elif rate is None:
            self.allowance = UNLIMITED
        else:
            self.allowance = self._pacer.grant(rate, 0 if self.allowance > UNLIMITED // 2 else self.allowance, now)

    def _show_state(self) -> None:
        self.tally.show(
            connections=len(self.pool.open),
            is_open=not self.available,
            rate=self.rate,
            slowed=self.brake.rate is not None,
        )
