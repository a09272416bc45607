"""The sender's work as stages (P7): decode → claim → build → transmit → settle → publish → acknowledge.

Each stage takes all that waits as one group. This file only wires them; the rules are in claims.py, ledger.py,
classify.py, results.py, the SQL in store.py, the wire in routing.py, relay.py and conversation.py.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from services.sender.admission import Admission
from services.sender.announcing import Announcer
from services.sender.bounding import Bound
from services.sender.building import build_mail
from services.sender.claiming import Claiming
from services.sender.intake import Cancellation, Intake, Refusal, Skip, locate
from services.sender.ledger import LedgerEntry, LedgerState, defer_all, fail_all
from services.sender.parcel import Ending, Parcel
from services.sender.pausing import Pauses
from services.sender.retries import RetryPolicy
from services.sender.routing import Relays
from services.sender.safety import OFF, Safety
from services.sender.store import SenderStore
from services.sender.transmit import assess, pack
from services.sender.work import Work
from shared.consuming import FaustLane, FaustTicket
from shared.due import DueRow
from shared.events import EmailRequested
from shared.failpoints import name_points
from shared.metrics import ACCEPTED_TO_SENT, MAILS_SETTLED, observe_all
from shared.stage import Stage
from shared.states import FailureReason
from shared.templates import TemplateError
from shared.turns import take_turns

log = structlog.get_logger(__name__)

LEASE_SAFE_SHARE = 14 / 15  # of the lease: content on its way when it ends must have left well before
LAST_START_S = 2.0  # after SIGTERM: envelopes on the wire may still get their content
ON_WIRE_S = 52.0  # after SIGTERM: how long a relay's last word is awaited; the watchdog ends the process at 60 s
LAST_SETTLE_S = 3.0
_SETTLED = {state: MAILS_SETTLED.labels(outcome=state.value) for state in LedgerState}
LINGER_S = 0.004  # a step in which a small group waits for company
DECODE_LIMIT = 256
READ_AHEAD = 1000  # mails that wait to be claimed before no further record is read: a bulk event holds hundreds
TWIN_PAUSE = timedelta(milliseconds=300)
UNREADABLE_PAUSE = timedelta(hours=1)
BUG_LIMIT = 50  # consecutive internal errors before the process gives up instead of burning through the topic


@dataclass(frozen=True, slots=True)
class PipelinePolicy:
    """When a deferred mail is tried again."""

    retries: RetryPolicy
    safety: Safety = OFF


class Pipeline:
    """All stages of one process. What stands here without a value is set by whoever builds the worker.

    `suppress` takes settled mails before they are settled, where an address that is dead is to be suppressed.
    """

    lane: FaustLane
    admission: Admission
    relays: Relays
    pauses: Pauses
    bound: Bound
    suppress: Callable[[list[LedgerEntry]], Awaitable[None]] | None = None

    def __init__(
        self,
        store: SenderStore,
        announcer: Announcer,
        intake: Intake,
        policy: PipelinePolicy,
        on_hopeless: Callable[[str], None],
    ) -> None:
        self._store = store
        self._announcer = announcer
        self._intake = intake
        self._policy = policy
        self._on_hopeless = on_hopeless
        self._in_transit = 0
        self._bugs = 0
        self.claiming = Claiming(store, self._drop, self._carry_on)
        self.claiming.safety = policy.safety
        self._decode = Stage[FaustTicket](
            "decode",
            self._decode_group,
            self._crash_reading,
            linger_s=LINGER_S,
            allowance=self._reading_room,
            describe=_read_value,
        )
        self._refuse = Stage[Refusal](
            "refuse", self._refuse_group, self._crash, describe=lambda refusal: _read_value(refusal.ticket)
        )
        self._claim = self._stage("claim", self._claim_group, allowance=self._credit)
        self._build = self._stage("build", self._build_group, limit=64)
        self._settle = self._stage("settle", self._settle_group, linger_s=LINGER_S)
        self._publish = self._stage("publish", self._publish_group, runners=4)
        self._release = self._stage("release", self._release_group)
        self._park = self._stage("park", self._park_group)
        self._stages: tuple[Stage[FaustTicket] | Stage[Refusal] | Stage[Work], ...] = (
            self._decode,
            self._refuse,
            self._claim,
            self._build,
            self._settle,
            self._publish,
            self._release,
            self._park,
        )

    def _stage(self, name: str, handle: Callable[[list[Work]], Awaitable[None]], **options: Any) -> Stage[Work]:
        return Stage[Work](name, handle, self._crash, describe=lambda work: work.mail.to_json(), **options)

    @property
    def points(self) -> tuple[str, ...]:
        """Where MILENA_TEST_FAILPOINTS may act in this process."""
        return name_points(stage.name for stage in self._stages)

    async def start(self) -> None:
        """Begin working."""
        for stage in self._stages:
            stage.start()

    def close(self) -> None:
        """The process drains: what has not begun is given back at once, its outcome is known (P8)."""
        self.relays.begin_no_more()

    async def stop(self) -> None:
        """Await what is on the wire as long as the watchdog lets us, then settle what is known of it and stop."""
        await self._await_active((self.lane.closing_since or time.monotonic()) + ON_WIRE_S)
        await self.relays.stop()  # a mail that has no answer now is unknown, one without content is not
        await self._await_active(time.monotonic() + LAST_SETTLE_S)
        for stage in reversed(self._stages):
            await stage.stop()

    async def _await_active(self, end: float) -> None:
        while self.claiming.active and time.monotonic() < end:
            await asyncio.sleep(0.02)

    # --- ways in ---

    def begin(self, ticket: FaustTicket) -> None:
        """A record has entered the lane."""
        if self.admission.admit(ticket):
            self._decode.put(ticket)
        else:
            self.lane.on_hold.add(ticket.partition)

    def release(self, ticket: FaustTicket) -> None:
        """An operator gives a held record another chance."""
        self.lane.on_hold.discard(ticket.partition)
        self._decode.put(ticket)

    def skip(self, ticket: FaustTicket, deaths: int) -> None:
        """An operator has given up a record that was held; it is answered without being read."""
        self.lane.on_hold.discard(ticket.partition)
        detail = f"skipped by an operator: {deaths} processes ended while they read this record"
        self._refuse.put(self._intake.refuse(ticket, detail))

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
        return 0 if self.lane.closing_since or not self.pauses.known else DECODE_LIMIT

    def due_room(self) -> int:
        """How many due mails may be taken now: at most half of what is in transit at once while new mail waits."""
        if not self.relays.available or self.lane.closing_since or not self.pauses.known:
            return 0
        bound = self._bound // 2 if self._claim.waiting else self._bound
        at_work = sum(1 for work in self.claiming.active.values() if work.due)
        return max(0, bound - at_work - sum(1 for work in self._claim.waiting if work.due))

    def on_ready(self) -> None:
        """A relay is available again, or may take more."""
        self._claim.wake()

    @property
    def may_read(self) -> bool:
        """Whether new mail is taken in: not while everything is paused, nor at the bound of what waits (P9)."""
        return not self.pauses.everything and not self.bound.reached

    def on_pauses(self) -> None:
        """Pauses have changed, or there are some: what has not begun and is paused goes back, and may be parked."""
        self._decode.wake()
        self.relays.recall(self._is_paused)

    def on_room(self) -> None:
        """There is room for mail that waits again."""
        self._decode.wake()

    def _is_paused(self, parcel: Parcel) -> bool:
        work: Work = parcel.context
        return self.pauses.find(work.entry.account, work.mail.tags) is not None

    def on_abandoned(self) -> None:
        """An assignment has ended: what waits under it is nobody's here, and must not be kept."""
        self._decode.discard(lambda ticket: not self.lane.is_current(ticket))
        self._claim.discard(self._drop)
        self._decode.wake()

    def on_returned(self, parcels: list[Parcel]) -> None:
        """The relays went away, or the process drains, before these began."""
        self._in_transit -= len(parcels)
        for parcel in parcels:
            parcel.context.troubles = parcel.troubles
        self._release.put_all(parcel.context for parcel in parcels)

    def on_late(self, parcels: list[Parcel]) -> None:
        """No relay could begin these in time, while others are sent: they wait in the database (P9)."""
        self._in_transit -= len(parcels)
        self._park.put_all(parcel.context for parcel in parcels)
        self._claim.wake()

    # --- the stages ---

    async def _decode_group(self, tickets: list[FaustTicket]) -> None:
        found: list[Work | list[Work] | Refusal | Cancellation | Skip] = []
        mails, taken = len(self._claim.waiting), 0
        async for ticket in take_turns(tickets):  # one mail may take long to read, and leases and relays wait for us
            taken += 1
            if self.lane.is_current(ticket):
                read = self._intake.read(ticket, locate(ticket))
                found.append(read)
                ticket.read = True
                mails += len(read) if isinstance(read, list) else 1
            if mails >= READ_AHEAD:
                break
        wishes = [each for each in found if isinstance(each, Cancellation)]
        if wishes:  # kept before anything that came with them or after them is claimed: a partition has an order
            await self._store.keep_cancellations([(each.event.id, each.event.account) for each in wishes])
        for read in found:
            if isinstance(read, Work):
                self._claim.put(read)
            elif isinstance(read, list):
                self._claim.put_all(read)
            elif isinstance(read, Refusal):
                self._refuse.put(read)
            else:
                self.lane.finish(read.ticket)
        self._decode.put_back(tickets[taken:])

    def _reading_room(self) -> int:
        return DECODE_LIMIT if self.may_read and len(self._claim.waiting) < READ_AHEAD else 0

    async def _claim_group(self, works: list[Work]) -> None:
        self._decode.wake()
        await self.claiming.claim_group(works)

    async def _refuse_group(self, refusals: list[Refusal]) -> None:
        await self._announcer.publish_refusals([(each.event, each.record) for each in refusals])
        for each in refusals:
            self.lane.finish(each.ticket)

    @property
    def _bound(self) -> int:
        return self.relays.capacity

    def _credit(self) -> int:
        if not self.relays.available or self.lane.closing_since:
            return 0
        return max(0, self._bound - self._in_transit)

    def _carry_on(self, works: list[Work]) -> None:
        """Claimed (to build), ended without sending (to settle), or told before (to publish)."""
        for work in works:
            if work.outcomes:
                self._settle.put(work)
            elif work.pending:
                self._in_transit += 1
                self._build.put(work)
            else:
                self._publish.put(work)

    def _drop(self, work: Work) -> bool:
        """Whether nobody here needs this work any more: its assignment ended before it began."""
        return work.due is None and not any(self.lane.is_current(ticket) for ticket in work.tickets)

    async def _build_group(self, works: list[Work]) -> None:
        parcels = []
        for work in works:
            try:
                message = build_mail(work.mail, work.entry, work.memo)
            except TemplateError as exc:
                why = f"{exc.field}: {exc.detail}"
                work.outcomes = work.refused | fail_all(work.pending, why, FailureReason.TEMPLATE_ERROR)
                self._end_transit(work)
            except Exception as exc:
                log.exception("mail cannot be built", email_id=str(work.id))
                self._on_build_bug(work, exc)
            else:
                may_write = partial(self._may_write, work)
                parcels.append(pack(work, message, may_write, self._on_transmitted, self._policy.safety))
        self.relays.submit(parcels)

    def _may_write(self, work: Work) -> bool:
        """Asked right before content is written: our claim must not have lapsed (P3), nor our time be over (P8).

        Nor the mail have expired while it waited for its turn: given back, it is found expired at the next claim.
        """
        now = time.monotonic()
        closing = self.lane.closing_since
        if closing is not None and now - closing > LAST_START_S:
            return False
        if work.now() >= work.entry.expires_at:
            return False
        return now - work.lease_confirmed < self._store.lease.total_seconds() * LEASE_SAFE_SHARE

    def _on_transmitted(self, parcel: Parcel) -> None:
        work: Work = parcel.context
        if parcel.ending is Ending.FORBIDDEN:
            log.info("not sent, claim given back", email_id=str(work.id))
            self._in_transit -= 1
            self._claim.wake()
            self._release.put(work)
            return
        self._bugs = 0
        work.relay = parcel.relay
        assessed = assess(work, parcel)
        work.outcomes = work.refused | assessed if work.refused else assessed
        self._end_transit(work)

    def _end_transit(self, work: Work) -> None:
        self._in_transit -= 1
        self._settle.put(work)
        self._claim.wake()

    async def _settle_group(self, works: list[Work]) -> None:
        self._apply([work for work in works if work.outcomes])  # once, however often the statement is repeated
        if self.suppress:  # before, so that it may be repeated
            await self.suppress([work.entry for work in works])
        lost = await self._store.settle(works)
        if not lost:
            self._publish.put_all(works)
            return
        for work in works:
            if work.id not in lost:
                self._publish.put(work)
            else:
                # Somebody took the mail over, or the answer to the first try was lost: the ledger decides.
                log.warning("settle found the claim gone", email_id=str(work.id))
                if work.due:
                    work.due.columns["announced"] = False  # what this attempt brought may not have been told
                self.claiming.give_up(work)
                self._claim.put(work)

    def _apply(self, works: list[Work]) -> None:
        """Take the outcomes of a group in. All its mails have one time: PostgreSQL's, and to write it takes long."""
        if not works:
            return
        now = works[0].now()
        seconds = []
        for work in works:
            outcomes, work.outcomes = work.outcomes, {}
            entry = work.entry
            hold = work.must_hold or work.mail.on_unknown == "hold"
            entry.apply(outcomes, now, self._policy.retries, relay=work.relay, hold=hold)
            repeated = work.due is not None and not work.due.columns["announced"]
            work.attempt_announced = None if repeated else entry.attempt
            if entry.state is LedgerState.SETTLED:
                seconds.append(max(0.0, (now - entry.accepted_at).total_seconds()))
            else:
                _SETTLED[entry.state].inc()
        _SETTLED[LedgerState.SETTLED].inc(len(seconds))
        observe_all(ACCEPTED_TO_SENT, seconds)

    async def _publish_group(self, works: list[Work]) -> None:
        await self._announcer.publish(works)
        unfinished = [work for work in works if work.entry.state in (LedgerState.DEFERRED, LedgerState.HELD)]
        finished = [work for work in works if work.due and work.entry.state is LedgerState.SETTLED]
        if unfinished:
            await self._store.mark_announced(unfinished)
            await self._store.put_back([work for work in unfinished if work.due])
        if finished:
            await self._store.finish(finished)
        for work in works:
            self._end(work)

    async def _release_group(self, works: list[Work]) -> None:
        await self._store.release(works)
        closing = self.lane.closing_since is not None
        if closing:
            await self._store.let_go([work.due for work in works if work.due])
        for work in works:
            self.claiming.give_up(work)
            if not closing and not self._drop(work):
                self._claim.put(work)

    async def _park_group(self, works: list[Work]) -> None:
        await self._store.release(works)
        waiting = [work for work in works if work.due is None]
        if waiting:
            await self._store.park(waiting)
        await self._store.let_go([work.due for work in works if work.due])
        log.info("no relay could begin these in time, parked", mails=len(works))
        for work in works:
            self.claiming.park_done(work)

    def _end(self, work: Work) -> None:
        for ticket in self.claiming.end(work):
            self.lane.finish(ticket)

    # --- bugs ---

    def _on_build_bug(self, work: Work, exc: Exception) -> None:
        """A mail this release cannot handle is kept for one that can: deferred, reason internal_error."""
        self._bugs += 1
        if self._bugs > BUG_LIMIT:
            self._on_hopeless("too many internal errors in a row")
        reason = FailureReason.INTERNAL_ERROR
        work.outcomes = work.refused | defer_all(work.pending, f"internal error: {type(exc).__name__}", reason)
        self._end_transit(work)

    def _crash_reading(self, item: object, exc: Exception) -> None:
        """Here, and only here, a record can be to blame (R4)."""
        self.admission.blame()
        self._crash(item, exc)

    def _crash(self, item: object, exc: Exception) -> None:
        """Nothing is acknowledged: what was in flight comes again after the restart."""
        if isinstance(item, Work):
            self.claiming.give_up(item)  # the drain is not to wait for it
        self._on_hopeless(f"stage failed: {type(exc).__name__}")


def _read_value(ticket: FaustTicket) -> bytes:
    return ticket.event.record.value or b""
