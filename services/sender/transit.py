"""Mails that are claimed and have no ending yet: built, handed to the relays, and back with an answer or without."""

import time
from collections.abc import Callable
from functools import partial

import structlog

from services.sender.building import build_mail
from services.sender.claiming import Claiming
from services.sender.entrance import Entrance
from services.sender.ledger import defer_all, fail_all
from services.sender.message import BuiltMessage
from services.sender.parcel import Ending, Parcel
from services.sender.safety import OFF, Safety
from services.sender.simulator import simulate
from services.sender.store import SenderStore
from services.sender.surroundings import OnBug, Surroundings, create_stage
from services.sender.transmit import assess, pack
from services.sender.work import Work
from shared.stage import Stage
from shared.states import FailureReason
from shared.templates import TemplateError
from shared.tracing import SpanKind, begin_hop, is_tracing

log = structlog.get_logger(__name__)

LEASE_SAFE_SHARE = 14 / 15  # of the lease: content on its way when it ends must have left well before
LAST_START_S = 2.0  # after SIGTERM: envelopes on the wire may still get their content
TEST_ROOM = 64  # test mails claimed at a time
BUG_LIMIT = 50  # consecutive internal errors before the process gives up instead of burning through the topic


class Transit:
    """`count` mails are on their way. Those with outcomes go to `settle`, those that did not begin back to `claim`."""

    def __init__(
        self,
        around: Surroundings,
        store: SenderStore,
        claiming: Claiming,
        safety: Safety,
        *,
        claim: Entrance,
        settle: Stage[Work],
        on_bug: OnBug,
        on_hopeless: Callable[[str], None],
    ) -> None:
        self.count = 0
        self._around = around
        self._store = store
        self._claiming = claiming
        self._safety = safety
        self._claim = claim
        self._settle = settle
        self._on_hopeless = on_hopeless
        self._bugs = 0
        self.build = create_stage("build", self._build_group, on_bug, limit=64)
        self.release = create_stage("release", self._release_group, on_bug)
        self.park = create_stage("park", self._park_group, on_bug)

    @property
    def room(self) -> int:
        """How many more may be claimed."""
        relays = self._around.relays
        if not relays.available or self._around.closing:
            return 0
        return max(0, relays.capacity - self.count)

    @property
    def test_room(self) -> int:
        """How many more test mails may be claimed, whatever the relays do."""
        return 0 if self._around.closing else TEST_ROOM

    def begin(self, work: Work) -> None:
        """A mail is claimed, and its recipients are to get it."""
        self.count += 1
        self.build.put(work)

    # --- what the relays tell ---

    def on_ready(self) -> None:
        """A relay is available again, or may take more."""
        self._claim.wake()

    def on_returned(self, parcels: list[Parcel]) -> None:
        """The relays went away, or the process drains, before these began."""
        self.count -= len(parcels)
        for parcel in parcels:
            parcel.context.troubles = parcel.troubles
        self.release.put_all(parcel.context for parcel in parcels)

    def on_late(self, parcels: list[Parcel]) -> None:
        """No relay could begin these in time, while others are sent: they wait in the database (P9)."""
        self.count -= len(parcels)
        self.park.put_all(parcel.context for parcel in parcels)
        self._claim.wake()

    # --- to the relays and back ---

    async def _build_group(self, works: list[Work]) -> None:
        parcels, simulated = [], []
        for work in works:
            message = self._build(work)
            if message is None:
                continue
            may_write = partial(self._may_write, work)
            if work.mail.test:  # it reaches nobody, so nobody has to be kept from it
                simulated.append(pack(work, message, may_write, self._on_transmitted, OFF))
            else:
                parcels.append(pack(work, message, may_write, self._on_transmitted, self._safety))
        if parcels:
            self._around.relays.submit(parcels)
        simulate(simulated)

    def _build(self, work: Work) -> BuiltMessage | None:
        """None where the mail has had its end instead."""
        try:
            return build_mail(work.mail, work.entry, work.memo)
        except TemplateError as exc:
            why = f"{exc.field}: {exc.detail}"
            work.outcomes = work.refused | fail_all(work.pending, why, FailureReason.TEMPLATE_ERROR)
            self._end(work)
        except Exception as exc:
            log.exception("mail cannot be built", email_id=str(work.id))
            self._on_build_bug(work, exc)
        return None

    def _on_build_bug(self, work: Work, exc: Exception) -> None:
        """A mail this release cannot handle is kept for one that can: deferred, reason internal_error."""
        self._bugs += 1
        if self._bugs > BUG_LIMIT:
            self._on_hopeless("too many internal errors in a row")
        reason = FailureReason.INTERNAL_ERROR
        work.outcomes = work.refused | defer_all(work.pending, f"internal error: {type(exc).__name__}", reason)
        self._end(work)

    def _may_write(self, work: Work) -> bool:
        """Asked right before content is written: our claim must not have lapsed (P3), nor our time be over (P8).

        Nor the mail have expired while it waited for its turn: given back, it is found expired at the next claim.
        """
        now = time.monotonic()
        closing = self._around.lane.closing_since
        if closing is not None and now - closing > LAST_START_S:
            return False
        if work.now() >= work.entry.expires_at:
            return False
        return now - work.lease_confirmed < self._store.lease.total_seconds() * LEASE_SAFE_SHARE

    def _on_transmitted(self, parcel: Parcel) -> None:
        work: Work = parcel.context
        if parcel.ending is Ending.FORBIDDEN:
            log.info("not sent, claim given back", email_id=str(work.id))
            self.count -= 1
            self._claim.wake()
            self.release.put(work)
            return
        self._bugs = 0
        work.relay = parcel.relay
        if is_tracing():
            _trace_transmission(work, parcel)
        assessed = assess(work, parcel)
        work.outcomes = work.refused | assessed if work.refused else assessed
        self._end(work)

    def _end(self, work: Work) -> None:
        self.count -= 1
        self._settle.put(work)
        self._claim.wake()

    # --- given back ---

    async def _release_group(self, works: list[Work]) -> None:
        await self._store.release(works)
        if self._around.closing:
            await self._store.let_go([work.due for work in works if work.due])
        for work in works:
            self._claiming.give_up(work)
            if not self._around.closing and not self._around.is_nobodys(work):
                self._claim.put(work)

    async def _park_group(self, works: list[Work]) -> None:
        await self._store.release(works)
        waiting = [work for work in works if work.due is None]
        if waiting:
            await self._store.park(waiting)
        await self._store.let_go([work.due for work in works if work.due])
        log.info("no relay could begin these in time, parked", mails=len(works))
        for work in works:
            self._claiming.park_done(work)


def _trace_transmission(work: Work, parcel: Parcel) -> None:
    """The span of one attempt at a relay, from when the mail was handed over to the relay's last word."""
    assert parcel.ending is not None
    replies = [reply.code for reply in parcel.replies if reply]
    hop = begin_hop(
        "smtp send", SpanKind.CLIENT, work.traceparent, seconds_ago=max(0.0, time.monotonic() - parcel.queued)
    )
    told: dict[str, str | int] = {
        "milena.email_id": work.entry.id_text,
        "milena.attempt": work.entry.attempt + 1,
        "milena.recipients": len(parcel.recipients),
        "milena.relay": parcel.relay,
    }
    if replies:
        told["milena.smtp_code"] = max(replies)
    answered = parcel.ending is Ending.ANSWERED and max(replies, default=0) < 400
    hop.end(error=None if answered else parcel.ending.value, attributes=told)
