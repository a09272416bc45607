"""Handing out: bulk mail leaves as fast as results come back (R2)."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog

from services.scheduler.pacing.contents import Contents
from services.scheduler.pacing.fairness import Claim, share_out
from services.scheduler.pacing.messages import Writer, divide_by_contents, list_places
from services.scheduler.pacing.store import PacingStore, QueuedMail, View
from services.scheduler.pacing.window import measure
from services.scheduler.unsubscribing.lane_links import LaneLinks
from services.scheduler.waiting.delayed import Expiry
from shared.due import DueRow
from shared.metrics import BULK_HANDED_OUT
from shared.publisher import EventTooLarge, Publisher
from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

_IDLE_S, _BREATH_S, _FAILURE_S = 0.15, 0.05, 1.0
_STOPPING_S = 20.0
_AT_ONCE = 1000  # mails of one round
_CONTENTS_AT_ONCE = 64  # in memory, each of up to the event limit
# A part of the window: a transaction for every mail that comes back would cost more than the mail. After a while any
# room will do, for mail that is stuck may hold the rest.
_WORTH_IT, _PATIENCE_S = 3, 0.3


class HandingOut:
    """Takes what the window has room for, publishes it, and forgets the group once the broker has it.

    A process that dies in between leaves a group whose lease runs out: it is published again, with the same ids.
    """

    def __init__(
        self,
        store: PacingStore,
        requests: Publisher,
        writer: Writer,
        links: LaneLinks,
        *,
        lease: timedelta,
        expiry: Expiry,
    ) -> None:
        self._store = store
        self._requests = requests
        self._writer = writer
        self._links = links
        self._contents = Contents(store)
        self._lease = lease
        self._expiry = expiry
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = self._barring = False
        self._left_at = 0.0  # when (monotonic) mail last left

    async def start(self) -> None:
        """Begin in the background."""
        self._stopping.clear()
        self._task = asyncio.create_task(self._run(), name="bulk-hand-out")

    async def stop(self) -> None:
        """Take nothing more; what has been taken is published, unless Kafka is away for too long."""
        task, self._task = self._task, None
        if task:
            self._stopping.set()
            self._woken.set()
            await asyncio.wait([task], timeout=_STOPPING_S)
            task.cancel()
            await asyncio.wait([task])

    def wake(self) -> None:
        """Look again: results have come back, or mail has come in."""
        self._woken.set()

    async def hand_out(self) -> int:
        """One round. Returns how many mails have left. Raises Unavailable, PublishError."""
        if not self._requests.available:
            return 0
        view = await self._store.look()
        adjusted = measure(view.window)
        if adjusted:
            await self._store.adjust(view, adjusted)
        patient = time.monotonic() < self._left_at + _PATIENCE_S
        shares = share_out(_find_room(view, patient=patient), await self._list_claims(view))
        if not shares:
            return 0
        taken = await self._store.take(shares, view.stuck, self._lease, self._expiry.default, self._expiry.limit)
        if taken is None:
            return 0
        group, mails = taken
        self._left_at = time.monotonic()
        await self._publish(group, mails)
        BULK_HANDED_OUT.inc(len(mails))
        return len(mails)

    async def _list_claims(self, view: View) -> list[Claim]:
        """Those of lanes whose mail may leave from this process."""
        barred = await self._links.find_barred([claim.lane for claim in view.claims])
        if barred and not self._barring:
            log.error("mailings wait: they say how to unsubscribe, and MILENA_PUBLIC_URL is not set", lanes=len(barred))
        self._barring = bool(barred)
        return [claim for claim in view.claims if claim.lane not in barred]

    async def publish_again(self, groups: Sequence[DueRow]) -> None:
        """Groups whose lease ran out before the broker had them. Raises Unavailable, PublishError."""
        for group in groups:
            mails = await self._store.list_queued(group)
            log.warning("a hand-out is begun again", mails=len(mails))
            await self._publish(group, mails)

    async def _publish(self, group: DueRow, mails: Sequence[QueuedMail]) -> None:
        links = await self._links.load(mail.lane for mail in mails if mail.recipient)
        try:
            async with asyncio.timeout(self._lease.total_seconds()):
                for some in divide_by_contents(mails, _CONTENTS_AT_ONCE):
                    bodies = await self._contents.load(list_places(some))
                    messages = self._writer.write(group.id, some, bodies, datetime.now(UTC), links)
                    await self._requests.publish_all(messages)
        except TimeoutError:
            log.warning("kafka has not acknowledged in time", mails=len(mails))
            return
        except EventTooLarge:
            log.error("the topic refuses bulk mail as too large; its max.message.bytes is too low", mails=len(mails))
            return
        await self._store.finish(group)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                left = await self.hand_out()
            except Exception as exc:
                self._report(exc)
                await _wait(self._stopping, _FAILURE_S)
                continue
            self._failing = False
            if left < _AT_ONCE:
                await _wait(self._stopping, _BREATH_S)
            if not left:
                await _wait(self._woken, _IDLE_S)

    def _report(self, exc: Exception) -> None:
        """An outage is said once; a bug every time."""
        if not isinstance(exc, Unavailable):
            log.error("handing out failed", exc_info=exc)
        elif not self._failing:
            log.warning("handing out waits", error=str(exc))
        self._failing = True


def _find_room(view: View, *, patient: bool) -> int:
    waiting = sum(claim.waiting for claim in view.claims)
    free = min(view.free, _AT_ONCE)
    return free if not patient or free >= min(waiting, view.window.size // _WORTH_IT, _AT_ONCE) else 0


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
