"""One relay: a pool of connections fed from one queue, with a breaker for when nobody answers (P10).

A mail meets a connection only once that is open, so a relay that is away burns no attempt; and a mail that met the
relay's own trouble before its content was written is taken back.
"""

import asyncio
import contextlib
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import structlog

from services.sender.answers import Kind
from services.sender.breaker import Breaker, BreakerPolicy, Gate
from services.sender.classify import Reply, kind_of
from services.sender.connecting import RelayMisconfigured, RelayUnavailable
from services.sender.conversation import Timeouts
from services.sender.pacing import TICK_S, UNLIMITED, Brake, Pacer, slower_of
from services.sender.parcel import Parcel
from services.sender.shares import Share
from services.sender.tally import Tally, judge
from services.sender.traffic import Traffic

log = structlog.get_logger(__name__)

MAX_REQUEUES = 2  # of one mail after the relay's own trouble; then the trouble may be the mail's, and it is deferred
CLAIMS_PER_CONNECTION = 16
_QUIET_TICK_S = 0.25


class Line(Protocol):
    """A connection that carries parcels one after another (conversation.py)."""

    @property
    def closing(self) -> bool:
        """No mail can begin here any more."""

    @property
    def farewell(self) -> Reply | None:
        """With what words the relay ended it, where it did."""

    def begin(self, parcel: Parcel) -> None:
        """Start with a parcel; the line asks for the next ones itself."""

    def check(self, now: float) -> None:
        """Drop what hangs, end politely what has been idle for long."""

    def silent_s(self, now: float) -> float:
        """How long the answer to a command has been awaited; 0.0 while idle, and at the final dot."""

    def quit(self) -> None:
        """End an idle connection."""

    def close(self) -> None:
        """Drop it, whatever is going on."""


class Opened(Protocol):
    """A connection that has just been made."""

    @property
    def utf8(self) -> bool:
        """Whether it takes addresses beyond ASCII."""

    def converse(
        self,
        relay: str,
        timeouts: Timeouts,
        next_parcel: Callable[[], Parcel | None],
        on_idle: Callable[[Line], None],
        on_lost: Callable[[Line, list[Parcel]], None],
    ) -> Line:
        """Carry parcels from now on."""


class Address(Protocol):
    """Where a relay is."""

    @property
    def name(self) -> str:
        """The relay's name in events, metrics and settings."""


class Seat:
    """A place at the queue: what one connection may still carry."""

    __slots__ = ("_relay", "left")

    def __init__(self, relay: "Relay", mails: int) -> None:
        self._relay = relay
        self.left = mails

    def next_parcel(self) -> Parcel | None:
        """The next mail; None while there is none, or none may begin. The hot path: a few integers."""
        relay = self._relay
        if not relay.queue or relay.allowance <= 0 or self.left <= 0:
            return None
        relay.allowance -= 1
        self.left -= 1
        relay.on_wire += 1
        parcel = relay.queue.popleft()
        parcel.carrier = relay
        return parcel


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
        self.allowance = UNLIMITED if connections else 0  # mails that may begin before the next tick
        self.utf8: bool | None = None  # whether it announces SMTPUTF8; None before the first connection
        self.tally = Tally(address.name)
        self.traffic = Traffic()
        self.breaker = Breaker(breaker or BreakerPolicy())
        self.brake = Brake()
        self._connect = connect
        self._timeouts = timeouts
        self._mails_per_connection = mails_per_connection or UNLIMITED
        self._claims_per_connection = claims_per_connection
        self._pacer = Pacer()
        self._share_until = math.inf
        self._lapsed = False
        self._idle: list[Line] = []
        self._open: dict[Line, Seat] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._dialling = 0  # connects under way; the others of `_opening` pause before theirs
        self._no_more_before = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False  # nothing more begins
        self._stopping = False

    # --- its life ---

    async def start(self) -> None:
        """Begin watching deadlines; connections are opened when there is mail."""
        self._tasks = [asyncio.create_task(self._watch(), name="relay-watch")]

    async def stop(self) -> None:
        """Close idle connections politely, the others at once: their mail becomes what it is (P6)."""
        self._stopping = True
        for task in (*self._tasks, *self._opening):
            task.cancel()
        for line in list(self._idle):
            line.quit()
        if self._open:
            await asyncio.sleep(0.05)
        for line in list(self._open):
            line.close()
        await asyncio.sleep(0)

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
        return len(self._open) + self._dialling

    @property
    def busy_connections(self) -> int:
        """Those that carry mail, or are about to."""
        return self.open_connections - len(self._idle)

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
        self._end_surplus()
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
            self._end_idle()
        if not found.returnable or parcel.requeues >= MAX_REQUEUES:
            return False
        parcel.requeues += 1
        parcel.revive()
        self.queue.appendleft(parcel)
        self._move_on()
        return True

    def _on_answered(self) -> None:
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
        while self._idle and self.queue and self.allowance > 0:
            line = self._idle.pop()
            if not line.closing:  # it has said QUIT, and waits for the answer
                parcel = self._open[line].next_parcel()
                if parcel:
                    line.begin(parcel)
        if self.breaker.failures:  # no more bursts until a connection is open again
            self._retry()
            return
        if self._open and time.monotonic() < self._no_more_before:
            return
        room = 1 - len(self._open) if self.breaker.gate is Gate.TRIAL else self.share.connections - len(self._open)
        for _ in range(min(room - len(self._opening), len(self.queue), self.allowance)):
            self._open_one()

    def _retry(self) -> None:
        if self.queue and not self._opening and self.share.connections:
            self._open_one(self.breaker.policy.retry_s)

    def _give_back(self) -> None:
        if self.queue:
            parcels = list(self.queue)
            self.queue.clear()
            self.on_returned(parcels)

    # --- connections ---

    def _open_one(self, pause_s: float = 0.0) -> None:
        task = asyncio.create_task(self._try_open(pause_s), name="relay-open")
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _try_open(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        while pause_s and self.open_connections >= self.share.connections:
            await asyncio.sleep(_QUIET_TICK_S)  # a probe, too, needs a share
        if not self._open:
            self.traffic.on_opening(time.monotonic())
        try:
            opened = await self._dial()
        except RelayUnavailable as exc:
            self._forget_opening()
            self._on_refusal(exc)
        except Exception as exc:
            log.exception("connecting failed", relay=self.name)
            self._forget_opening()
            self._on_refusal(RelayUnavailable(f"internal error: {type(exc).__name__}"))
        else:
            self._forget_opening()
            self._on_open(opened)

    async def _dial(self) -> Opened:
        self._dialling += 1
        try:
            return await self._connect(self.address)
        finally:
            self._dialling -= 1

    def _forget_opening(self) -> None:
        """Called from within the task that opens, so that what follows may count without it."""
        task = asyncio.current_task()
        if task:
            self._opening.discard(task)

    def _on_open(self, opened: Opened) -> None:
        was_broken = not self.available
        self.breaker.on_connected()
        self.traffic.on_open()
        self.utf8 = opened.utf8
        seat = Seat(self, self._mails_per_connection)
        line = opened.converse(self.name, self._timeouts, seat.next_parcel, self._on_idle, self._on_lost)
        self._open[line] = seat
        if was_broken:
            log.info("relay can be reached again", relay=self.name)
        self._grant(time.monotonic())
        self._show_state()
        self._on_idle(line)
        self._move_on()
        self.on_ready()

    def _on_refusal(self, exc: RelayUnavailable) -> None:
        self.last_error = str(exc)
        if self._stopping:
            return
        if self._open and self.available:  # it takes mail, only not on one more connection
            self._no_more_before = time.monotonic() + self.breaker.policy.more_after_s
            return
        operators = isinstance(exc, RelayMisconfigured)
        if self.breaker.on_refused(operators=operators, others_under_way=bool(self._opening)):
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
        self._end_idle()
        self._give_back()
        self._probe()

    def _probe(self) -> None:
        if not self._opening and not self._stopping:
            self._open_one(self.breaker.next_pause_s(random.random()))  # noqa: S311 - spreads probes, no secret

    def _on_idle(self, line: Line) -> None:
        seat = self._open[line]
        if seat.left <= 0 or not self.available:
            self._end(line)
        elif parcel := seat.next_parcel():
            line.begin(parcel)
        else:
            self._idle.append(line)

    def _end_surplus(self) -> None:
        """Connections beyond the share end: the idle at once, the others after the mail they carry."""
        staying = [line for line, seat in self._open.items() if seat.left > 0 and not line.closing]
        surplus = staying[self.share.connections :] if self.share.connections < len(staying) else []
        for line in sorted(surplus, key=lambda each: each not in self._idle):
            self._open[line].left = 0
            if line in self._idle:
                self._end(line)

    def _end_idle(self) -> None:
        """Where one connection broke, those that lie idle may be dead, too: what was on it is to have a fresh one."""
        for line in list(self._idle):
            self._end(line)

    def _end(self, line: Line) -> None:
        with contextlib.suppress(ValueError):
            self._idle.remove(line)
        if not line.closing:
            line.quit()

    def _on_lost(self, line: Line, untouched: list[Parcel]) -> None:
        self._open.pop(line, None)
        with contextlib.suppress(ValueError):
            self._idle.remove(line)
        self._show_state()
        self.on_wire -= len(untouched)
        self.queue.extendleft(reversed(untouched))
        if untouched:
            self._end_idle()
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
        silent_s = 0.0
        for line in list(self._open):
            line.check(now)
            silent_s = max(silent_s, line.silent_s(now))
        self.traffic.look(
            now,
            len(self.queue),
            self.share.connections,
            self.capacity,
            opening=self._dialling > 0,
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
            connections=len(self._open), is_open=not self.available, rate=self.rate, slowed=self.brake.rate is not None
        )
