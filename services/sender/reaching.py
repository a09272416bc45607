"""Getting in at a relay: when connections are opened, tried again and probed, and what their failures say of it."""

import math
import random
import time

import structlog

from services.sender.breaker import Breaker, Gate
from services.sender.connecting import RelayMisconfigured, RelayUnavailable
from services.sender.pool import Pool, Seat

log = structlog.get_logger(__name__)

_BETWEEN_NOTES_S = 60.0


class Reaching:
    """Opens connections as far as the breaker lets it. Methods that may open the breaker say whether they just have."""

    def __init__(self, name: str, pool: Pool, breaker: Breaker) -> None:
        self.stopping = False
        self._name = name
        self._pool = pool
        self._breaker = breaker
        self._no_more_before = 0.0
        self._broken = 0  # connections since the last note of it
        self._noted = -math.inf

    def open_for(self, waiting: int, allowance: int, connections: int) -> None:
        """Connections for what waits and may begin, of at most `connections`."""
        pool, breaker = self._pool, self._breaker
        if breaker.failures:  # no more bursts until a connection is open again
            if waiting and connections and not pool.opening:
                pool.open_one(breaker.policy.retry_s)
            return
        if pool.open and time.monotonic() < self._no_more_before:
            return
        most = 1 if breaker.gate is Gate.TRIAL else connections
        for _ in range(min(most - len(pool.open) - len(pool.opening), waiting, allowance)):
            pool.open_one()

    def probe(self) -> None:
        """See after a pause whether the relay is back."""
        if not self._pool.opening and not self.stopping:
            self._pool.open_one(self._breaker.next_pause_s(random.random()))  # noqa: S311 - spreads probes, no secret

    def on_opened(self) -> None:
        """A connection has been opened."""
        was_broken = self._breaker.gate is Gate.OPEN
        self._breaker.on_connected()
        if was_broken:
            log.info("relay can be reached again", relay=self._name)

    def on_refused(self, exc: RelayUnavailable) -> bool:
        """One could not be opened."""
        pool, breaker = self._pool, self._breaker
        if pool.open and breaker.gate is not Gate.OPEN:  # it takes mail, only not on one more connection
            self._no_more_before = time.monotonic() + breaker.next_more_s()
            return False
        operators = isinstance(exc, RelayMisconfigured)
        if breaker.on_refused(operators=operators, others_under_way=bool(pool.opening)):
            return True
        if breaker.gate is Gate.OPEN:
            self.probe()
        return False

    def on_trouble(self, seat: Seat, *, operators: bool, broken: bool, why: str) -> bool:
        """A mail met the relay's own trouble. A connection that broke counts once, whatever lay on it."""
        counted, seat.troubled = seat.troubled and broken, True
        if broken and not counted:
            self._note_break(why)
        return not counted and self._breaker.on_trouble(operators=operators)

    def _note_break(self, why: str) -> None:
        """Connections break now and then; that is no news for an operator as long as mail flows."""
        self._broken += 1
        now = time.monotonic()
        if now - self._noted >= _BETWEEN_NOTES_S:
            log.info("relay has broken connections", relay=self._name, connections=self._broken, last=why)
            self._broken, self._noted = 0, now
