"""What the connections of a relay tell: of mails that ended, of connections that opened, broke or did not open."""

import math
import time
from collections.abc import Awaitable, Callable

import structlog

from services.sender.answers import Kind
from services.sender.breaker import Gate
from services.sender.classify import kind_of
from services.sender.connecting import RelayUnavailable
from services.sender.conversation import Timeouts
from services.sender.feed import Feed
from services.sender.lines import Address, Line, Opened
from services.sender.parcel import Parcel, Troubles
from services.sender.pool import Pool, Seat
from services.sender.reaching import Reaching
from services.sender.remainder import split
from services.sender.tally import Judgement, Tally, judge
from services.sender.traffic import Traffic

log = structlog.get_logger(__name__)

MAX_REQUEUES = 2  # of one mail after the relay's own trouble; then the trouble may be the mail's, and it is deferred


class Hearing:
    """Hears for breaker, throttle and metrics, and decides whether a mail goes on. Keeps the connections fed."""

    def __init__(
        self,
        address: Address,
        connect: Callable[..., Awaitable[Opened]],
        timeouts: Timeouts,
        mails_per_connection: int,
        feed: Feed,
    ) -> None:
        self.feed = feed
        self.traffic = Traffic()
        self.tally = Tally(address.name)
        self.last_error: str | None = None
        self.utf8: bool | None = None  # whether it announces SMTPUTF8; None before the first connection
        self.pool = Pool(self, feed, address, connect, timeouts, mails_per_connection)
        self.reaching = Reaching(address.name, self.pool, feed.breaker)
        self._name = address.name
        self._breaker = feed.breaker
        self._answered = -math.inf  # when it last said something of a mail

    # --- feeding ---

    def move_on(self) -> None:
        """What is queued begins, or goes back where nothing can begin."""
        feed = self.feed
        if feed.closing or not feed.available:
            feed.give_back()
            return
        self.pool.feed()
        self.reaching.open_for(len(feed.queue), feed.allowance, feed.throttle.connections)

    # --- what became of a mail ---

    def hear(self, parcel: Parcel, seat: Seat) -> bool:
        """A parcel's ending, before anybody else knows. True: it is none, and the mail goes on (parcel.py)."""
        self.feed.on_wire -= 1
        self.traffic.ended += 1
        replies = parcel.replies
        if parcel.content_answered and len(replies) == 1 and (first := replies[0]) and first.code < 300:
            self.tally.sent += 1
            self._answered = time.monotonic()
            if self._breaker.troubled:
                self._on_answered(self._answered)
            return False
        return self._weigh(parcel, seat)

    def _weigh(self, parcel: Parcel, seat: Seat) -> bool:
        found = judge(parcel)
        self.tally.count(found.outcome)
        if found.silent:
            return False
        now = time.monotonic()
        if not found.trouble:
            self._on_answered(now)
        elif self.reaching.on_trouble(seat, operators=found.operators, broken=found.broken, why=found.trouble):
            self._on_broken(found.trouble)
        if found.slower:
            self._slow_down(now, explicit=found.explicit)
        if found.pause_s:
            self._pause(now, found.pause_s, parcel)
        if found.trouble:
            return self._take_back(parcel, found, now)
        if len(parcel.recipients) > 1 and (rest := split(parcel, now)):
            self.feed.queue.appendleft(rest)
            self.move_on()
            return True
        return found.unfit and self.feed.hooks.on_unfit(parcel)

    def _take_back(self, parcel: Parcel, found: Judgement, now: float) -> bool:
        """Whether a mail that met the relay's own trouble goes on."""
        if found.outcome == "broken":
            self.pool.end_idle()
        troubles = parcel.troubles = parcel.troubles or Troubles()
        if not found.returnable or (troubles.count >= MAX_REQUEUES and self.feed.available):
            return False
        troubles.add(self._name, now, self._answered)
        self.feed.begin_again(parcel)
        self.move_on()
        return True

    def _on_answered(self, now: float) -> None:
        self._answered = now
        if self._breaker.on_answered():
            self.last_error = None
            log.info("relay takes mail again", relay=self._name)
            self.feed.grant(now)
            self.feed.hooks.on_ready()

    def _slow_down(self, now: float, *, explicit: bool) -> None:
        throttle, traffic = self.feed.throttle, self.traffic
        if not self.feed.available:  # the breaker sees to it
            return
        if throttle.complain(now, traffic.ended, traffic.rate, explicit=explicit):
            rate = round(throttle.brake.rate or 0, 1)
            log.warning("relay asks for fewer mails", relay=self._name, mails_per_s=rate)
            self.feed.grant(now)

    def _pause(self, now: float, pause_s: float, parcel: Parcel) -> None:
        if not self.feed.throttle.pause(now, pause_s):
            return
        self.last_error = f"it asked for no mail for {pause_s:.0f} s: {parcel.replies[0]}"
        log.warning("relay asks for a pause", relay=self._name, seconds=round(pause_s, 1))
        self.feed.grant(now)
        self.feed.give_back()

    def on_resumed(self) -> None:
        """The pause it asked for is over."""
        log.info("relay may have mail again", relay=self._name)
        if self._breaker.gate is Gate.CLOSED:
            self.last_error = None
        self.feed.hooks.on_ready()

    # --- what its connections tell ---

    def on_opened(self, opened: Opened) -> None:
        """A connection has been opened."""
        self.reaching.on_opened()
        self.traffic.on_open()
        self.utf8 = opened.utf8
        self.feed.grant(time.monotonic())
        self.show_state()
        self.move_on()
        self.feed.hooks.on_ready()

    def on_refused(self, exc: RelayUnavailable) -> None:
        """One could not be opened."""
        self.last_error = str(exc)
        if self.reaching.stopping:
            return
        if self.reaching.on_refused(exc):
            self._on_broken(self.last_error)
        elif self._breaker.failures:
            self.move_on()

    def on_lost(self, line: Line, seat: Seat, untouched: list[Parcel]) -> None:
        """One has ended; `untouched` had not begun."""
        feed, farewell = self.feed, line.farewell
        self.show_state()
        if untouched:
            feed.on_wire -= len(untouched)
            feed.queue.extendleft(reversed(untouched))
            self.pool.end_idle()
            if farewell and kind_of(farewell) is Kind.RATE_LIMITED:
                self._slow_down(time.monotonic(), explicit=True)
            why = str(farewell or "it ends connections before it takes mail")
            if not self.reaching.stopping and self.reaching.on_trouble(seat, operators=False, broken=True, why=why):
                self._on_broken(why)
        if feed.queue:
            self.move_on()

    def _on_broken(self, why: str) -> None:
        self.last_error = why
        log.error("relay unavailable, nothing more is sent there", relay=self._name, error=why)
        self.feed.allowance = 0
        self.show_state()
        self.pool.end_idle()
        self.feed.give_back()
        self.reaching.probe()

    # --- as time passes ---

    def look(self, now: float) -> None:
        """A few times a second: end what hangs or has been idle for long, measure the traffic, show the state."""
        feed, pool, throttle = self.feed, self.pool, self.feed.throttle
        silent_s = pool.look(now)
        if pool.dialling and not pool.open:
            self.traffic.on_opening(now)
        self.traffic.look(
            now, len(feed.queue), throttle.connections, feed.capacity, opening=pool.dialling > 0, silent_s=silent_s
        )
        if throttle.brake.ease(now):
            log.info("relay has its full rate again", relay=self._name)
        self.show_state()

    def show_state(self) -> None:
        """Set the metrics."""
        throttle = self.feed.throttle
        self.tally.show(
            connections=len(self.pool.open),
            is_open=self._breaker.gate is Gate.OPEN,
            rate=throttle.rate,
            slowed=throttle.brake.rate is not None,
        )
