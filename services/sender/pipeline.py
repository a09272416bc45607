"""The sender's work as stages (P7): decode → claim → build → transmit → settle → publish → acknowledge.

Each stage takes all that waits as one group. This file wires them; they stand in reading.py (decode, refuse),
claiming.py, transit.py (build, release, park) and finishing.py (settle, publish). The wire is in routing.py, relay.py
and conversation.py, the SQL in store.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from services.sender.announcing import Announcer
from services.sender.claiming import Claiming
from services.sender.entrance import Entrance
from services.sender.finishing import Finishing
from services.sender.intake import Intake
from services.sender.parcel import Parcel
from services.sender.reading import DECODE_LIMIT, Reading
from services.sender.retries import RetryPolicy
from services.sender.safety import OFF, Safety
from services.sender.store import SenderStore
from services.sender.surroundings import Surroundings
from services.sender.transit import Transit
from services.sender.work import Work
from shared.due import DueRow
from shared.events import EmailRequested
from shared.failpoints import name_points
from shared.stage import Stage

log = structlog.get_logger(__name__)

ON_WIRE_S = 52.0  # after SIGTERM: how long a relay's last word is awaited; the watchdog ends the process at 60 s
LAST_SETTLE_S = 3.0
TWIN_PAUSE = timedelta(milliseconds=300)
UNREADABLE_PAUSE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class PipelinePolicy:
    """When a deferred mail is tried again, and who must not get any."""

    retries: RetryPolicy
    safety: Safety = OFF


class Pipeline:
    """All stages of one process, in the `around` that whoever builds the worker fills in."""

    def __init__(
        self,
        store: SenderStore,
        announcer: Announcer,
        intake: Intake,
        policy: PipelinePolicy,
        on_hopeless: Callable[[str], None],
    ) -> None:
        self.around = around = Surroundings()
        self._store = store
        self._intake = intake
        self._on_hopeless = on_hopeless
        self.claiming = Claiming(store, around.is_nobodys, self._carry_on)
        self.claiming.safety = policy.safety
        self._claim = Entrance(
            self._claim_group, self._crash, room=lambda: self.transit.room, test_room=lambda: self.transit.test_room
        )
        self.reading = Reading(around, store, announcer, intake, self._claim, self._crash)
        self._finishing = Finishing(
            around, store, announcer, self.claiming, policy.retries, claim=self._claim, on_bug=self._crash
        )
        self.transit = Transit(
            around,
            store,
            self.claiming,
            policy.safety,
            claim=self._claim,
            settle=self._finishing.settle,
            on_bug=self._crash,
            on_hopeless=on_hopeless,
        )
        self._stages: tuple[Stage[Any], ...] = (
            self.reading.decode,
            self.reading.refuse,
            *self._claim.stages,
            self.transit.build,
            self._finishing.settle,
            self._finishing.publish,
            self.transit.release,
            self.transit.park,
        )

    @property
    def points(self) -> tuple[str, ...]:
        """Where MILENA_TEST_FAILPOINTS may act in this process."""
        return name_points(dict.fromkeys(stage.name for stage in self._stages))

    # --- its life ---

    async def start(self) -> None:
        """Begin working."""
        for stage in self._stages:
            stage.start()

    def close(self) -> None:
        """The process drains: what has not begun is given back at once, its outcome is known (P8)."""
        self.around.relays.begin_no_more()

    async def stop(self) -> None:
        """Await what is on the wire as long as the watchdog lets us, then settle what is known of it and stop."""
        await self._await_active((self.around.lane.closing_since or time.monotonic()) + ON_WIRE_S)
        await self.around.relays.stop()  # a mail that has no answer now is unknown, one without content is not
        await self._await_active(time.monotonic() + LAST_SETTLE_S)
        for stage in reversed(self._stages):
            await stage.stop()

    async def _await_active(self, end: float) -> None:
        while self.claiming.active and time.monotonic() < end:
            await asyncio.sleep(0.02)

    def on_abandoned(self) -> None:
        """An assignment has ended: what waits under it is nobody's here, and must not be kept."""
        self.reading.on_abandoned()
        self._claim.discard(self.around.is_nobodys)

    def on_pauses(self) -> None:
        """Pauses have changed, or there are some: what has not begun and is paused goes back, and may be parked."""
        self.reading.wake()
        self.around.relays.recall(self._is_paused)

    def _is_paused(self, parcel: Parcel) -> bool:
        work: Work = parcel.context
        return self.around.pauses.find(work.entry.account, work.mail.tags) is not None

    # --- due mail ---

    async def begin_due(self, rows: list[DueRow]) -> None:
        """Leased rows of mail that waited."""
        self._claim.put_all(await self._read_due(rows))

    async def begin_decided(self, rows: list[DueRow]) -> None:
        """Leased rows of mail that operators have settled by their word: that needs no relay, and no room at one."""
        works = await self._read_due(rows)
        try:
            await self.claiming.claim_group(works)
        except Exception:
            for work in works:
                self.claiming.give_up(work)
            raise

    async def _read_due(self, rows: list[DueRow]) -> list[Work]:
        works = []
        for row in rows:
            if row.id in self.claiming.active:  # its last attempt is being told of, or another record with its id
                await self._store.postpone(row, TWIN_PAUSE)
                continue
            try:
                mail = EmailRequested.model_validate_json(row.columns["event"])
                work = self._intake.begin(mail, row.columns["accepted_at"], row.columns["traceparent"])
            except Exception:  # kept for a release that can read it, and out of the way of the others
                log.exception("stored mail cannot be read", email_id=str(row.id))
                await self._store.postpone(row, UNREADABLE_PAUSE)
                continue
            work.due = row
            works.append(work)
        return works

    def decided_room(self) -> int:
        """How many mails that operators have settled may be taken now."""
        return 0 if self.around.closing or not self.around.pauses.known else DECODE_LIMIT

    def due_room(self) -> int:
        """How many due mails may be taken now: at most half of what is in transit at once while new mail waits."""
        relays, waiting = self.around.relays, self._claim.waiting
        if not relays.available or self.around.closing or not self.around.pauses.known:
            return 0
        bound = relays.capacity // 2 if waiting else relays.capacity
        at_work = sum(1 for work in self.claiming.active.values() if work.due)
        return max(0, bound - at_work - sum(1 for work in waiting if work.due))

    def due_test_room(self) -> int:
        """How many due test mails may be taken now, where no relay can be reached: they need none."""
        if self.around.relays.available or not self.around.pauses.known:
            return 0  # or they come with all others
        return self.transit.test_room

    # --- between the rooms ---

    async def _claim_group(self, works: list[Work]) -> None:
        self.reading.wake()
        await self.claiming.claim_group(works)

    def _carry_on(self, works: list[Work]) -> None:
        """Claimed (to build), ended without sending (to settle), or told before (to publish)."""
        for work in works:
            if work.outcomes:
                self._finishing.settle.put(work)
            elif work.pending:
                self.transit.begin(work)
            else:
                self._finishing.publish.put(work)

    def _crash(self, item: object, exc: Exception) -> None:
        """Nothing is acknowledged: what was in flight comes again after the restart."""
        if isinstance(item, Work):
            self.claiming.give_up(item)  # the drain is not to wait for it
        self._on_hopeless(f"stage failed: {type(exc).__name__}")
