"""Holding on to claims while their mail is at work, and letting go of offsets that wait too long (P3, P9)."""

import asyncio
import time
from collections.abc import Callable

import structlog

from services.sender.claiming import Claiming
from services.sender.store import DUE, SenderStore
from services.sender.work import Work
from shared.consuming import FaustTicket
from shared.metrics import LEASE_RENEWALS
from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

RENEW_AFTER = 1 / 3  # of the lease
PARK_AFTER = 2 / 3


class Leases:
    """Looks once a second at what is at work in this process."""

    def __init__(self, store: SenderStore, claiming: Claiming, finish: Callable[[FaustTicket], None]) -> None:
        self._store = store
        self._claiming = claiming
        self._finish = finish
        lease_s = store.lease.total_seconds()
        self._renew_after_s = lease_s * RENEW_AFTER
        self._patience_s = lease_s / 6
        self._park_after_s = lease_s * PARK_AFTER
        self._look_every_s = min(1.0, lease_s / 10)
        self._losses_seen = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin looking."""
        self._task = asyncio.create_task(self._run(), name="leases")

    async def stop(self) -> None:
        """Stop looking."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._look_every_s)
            try:
                await self._renew()
                await self._park_late()
            except (Unavailable, TimeoutError) as exc:
                log.warning("leases wait", error=str(exc) or "postgresql does not answer")
            except Exception:
                log.exception("leases failed")

    async def _renew(self) -> None:
        now = time.monotonic()
        losses = self._store.database.losses
        after = 0.0 if losses != self._losses_seen else self._renew_after_s  # first of all, after a lost connection
        held = [
            work
            for work in self._claiming.active.values()
            if work.lease_confirmed and now - work.lease_confirmed > after
        ]
        if held:
            async with asyncio.timeout(self._patience_s):  # one connection that hangs must not cost all the others
                times = await self._store.renew(held)
            for work in held:
                if work.id in times:
                    work.confirm_lease(now, times[work.id])
            LEASE_RENEWALS.inc(len(times))
            async with asyncio.timeout(self._patience_s):
                await DUE.renew(self._store.database, [work.due for work in held if work.due], self._store.lease)
        self._losses_seen = losses

    async def _park_late(self) -> None:
        """A mail that lasts goes on and settles by itself; a parked row takes the place of its offset."""
        now = time.monotonic()
        late = [work for work in self._claiming.active.values() if self._late_tickets(work, now)]
        if not late:
            return
        await self._store.park(late)
        log.info("mails last long, offsets released", mails=len(late))
        for work in late:
            tickets = self._late_tickets(work, now)
            work.tickets = [each for each in work.tickets if each not in tickets]
            for ticket in tickets:
                self._finish(ticket)

    def _late_tickets(self, work: Work, now: float) -> list[FaustTicket]:
        if not work.lease_confirmed:
            return []
        return [ticket for ticket in work.tickets if now - max(ticket.since, work.began) > self._park_after_s]
