"""Taking on this process's shares of the relays' limits, once a second, and telling how the relays are."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

import structlog

from services.sender.relay import Relay
from services.sender.shares import Limits, Wish
from services.sender.store.shares import Report, ShareStore
from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=5)
_SAFE_SHARE = 0.8  # of the lease, counted from before it was asked for: then nothing begins any more
_TURN_S = 1.0
_SOON_S = 0.3  # where somebody waits: we have no connection yet, or have given some up
_PATIENCE_S = 3.0
_IDLE_CONNECTIONS = 2  # wished for by who sends next to nothing, of a limit that is not small
_SMALL_LIMIT = 8
_IDLE_RATE = 1.0


class Sharing:
    """Tells every second what this process wishes for, and hands what it gets to the relays."""

    def __init__(self, store: ShareStore, slot: int, relays: Sequence[tuple[Relay, Limits]]) -> None:
        self._store = store
        self._slot = slot
        self._relays = list(relays)
        self._limits = [limits for _, limits in relays]
        self._process = uuid4()
        self._joined = False
        self._away = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin asking."""
        self._task = asyncio.create_task(self._run(), name="sharing")

    async def stop(self) -> None:
        """Give everything back; where PostgreSQL is away, the lease ends by itself."""
        if not self._task:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._store.leave(self._process)
        except (Unavailable, TimeoutError) as exc:
            log.warning("shares not given back", error=str(exc) or "postgresql does not answer")

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    pause_s = await self._take_turn()
                self._away = False
            except (Unavailable, TimeoutError) as exc:
                if not self._away:
                    log.warning("shares of relays wait", error=str(exc) or "postgresql does not answer")
                self._away, pause_s = True, _SOON_S
            except Exception:
                log.exception("sharing failed")
                pause_s = _TURN_S
            await asyncio.sleep(pause_s)

    async def _take_turn(self) -> float:
        """Ask once; returns how long to wait before asking again."""
        if not self._joined:
            await self._store.join(self._limits, self._slot, self._process)
            self._joined = True
        asked = time.monotonic()
        reports = [self._report(relay, limits, asked) for relay, limits in self._relays]
        shares = await self._store.lease(self._limits, self._slot, reports, LEASE)
        until = asked + LEASE.total_seconds() * _SAFE_SHARE
        for relay, _ in self._relays:
            relay.set_share(shares[relay.name], until)
        waits = any(not relay.connections or relay.open_connections > relay.connections for relay, _ in self._relays)
        return _SOON_S if waits else _TURN_S

    def _report(self, relay: Relay, limits: Limits, now: float) -> Report:
        """A busy process wishes for all there is; one that is not, for enough to begin at once."""
        connections, rate = limits.connections, limits.mails_per_second or 0.0
        if not relay.traffic.is_pressed(now):
            least = _IDLE_CONNECTIONS if connections > _SMALL_LIMIT else 1
            connections = min(connections, max(least, 2 * relay.busy_connections))
            rate = min(rate, max(_IDLE_RATE, 1.5 * relay.traffic.rate))
        wish = Wish(self._process, connections, rate, relay.open_connections)
        return Report(
            relay.name, wish, relay.breaker.gate.value, relay.last_error, relay.traffic.rate, relay.throttle.brake.rate
        )
