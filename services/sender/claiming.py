"""The claim stage: one statement for what is new, then the ledger's word on what is not (P3, P5, P6)."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.sender.claims import Decision, Standing, decide
from services.sender.classify import Failed, Unknown
from services.sender.ledger import MAX_UNKNOWNS, LedgerEntry, LedgerState, fail_all
from services.sender.pausing import Pauses, Scope
from services.sender.safety import OFF, Safety
from services.sender.settling import Intent, find_relay, read_intent, settle_by_word
from services.sender.store import Found, SenderStore
from services.sender.work import Work
from shared.consuming import FaustTicket
from shared.metrics import CLAIMS
from shared.states import FailureReason

_ROUNDS = 3  # a row may change between reading and taking it; after that many surprises the mail is parked


@dataclass(slots=True)
class _Taken:
    """A row to be claimed as it was read."""

    work: Work
    standing: Standing
    found: Found
    decision: Decision


class Claiming:
    """Claims groups of works. `active` holds what this process has claimed or is about to, by email id.

    `drop` tells whether a work is nobody's any more, `carry_on` gets what is to go on, `park_done` the parked.
    `pauses` keeps what must not be sent now.
    """

    park_done: Callable[[Work], None]
    pauses: Pauses
    safety: Safety = OFF

    def __init__(
        self, store: SenderStore, drop: Callable[[Work], bool], carry_on: Callable[[list[Work]], None]
    ) -> None:
        self.active: dict[UUID, Work] = {}
        self._store = store
        self._drop = drop
        self._carry_on = carry_on
        self._losses_seen = 0
        # A fresh process cannot know how long the database was away before: nothing is taken over for one lease.
        self._no_takeover_before = time.monotonic() + self._store.lease.total_seconds()

    async def claim_group(self, works: list[Work]) -> None:
        """One group; safe to repeat after a lost answer, the tokens make the second claim succeed."""
        admitted = self._admit(works)
        if not admitted:
            return
        asked = time.monotonic()
        found = await self._store.claim(admitted)
        ready = []
        known = []
        answered = time.monotonic()
        for work in admitted:
            each = found[work.id]
            if each.fresh:
                work.confirm_lease(asked, each.now, answered)
                self._prepare(work, each)
                ready.append(work)
            else:
                known.append(work)
        CLAIMS.labels(found="new").inc(len(ready))
        if known:
            ready += await self._claim_known(known, found)
        self._carry_on(await self._hold_back(ready))

    def end(self, work: Work) -> list[FaustTicket]:
        """The work is over; returns the tickets that were waiting for it."""
        self.give_up(work)
        tickets, work.tickets = work.tickets, []
        return tickets

    def give_up(self, work: Work) -> None:
        """We hold the mail no longer."""
        if self.active.get(work.id) is work:
            del self.active[work.id]
        work.lease_confirmed = 0.0

    def _admit(self, works: list[Work]) -> list[Work]:
        """Drop what is nobody's; let twins of a mail at work here end with it."""
        admitted = []
        for work in works:
            leader = self.active.get(work.id)
            if leader is not None and leader is not work:
                leader.tickets += work.tickets
                work.tickets = []
                if work.mail.paced:
                    _mark_paced(leader.entry)
            elif leader is work or not self._drop(work):
                self.active[work.id] = work
                admitted.append(work)
        return admitted

    async def _hold_back(self, works: list[Work]) -> list[Work]:
        """Park what would be sent and is paused; returns the others: those that go out, end, or are told of again."""
        if not self.pauses.scopes:
            return works
        paused: list[tuple[Work, Scope]] = []
        others = []
        for work in works:
            would_begin = work.pending and not work.outcomes
            scope = self.pauses.find(work.entry.account, work.mail.tags) if would_begin else None
            if scope is None:
                others.append(work)
            else:
                paused.append((work, scope))
        if paused:
            await self.pauses.park(paused)
            for work, _ in paused:
                self.park_done(work)
        return others

    # --- mails the ledger knows ---

    async def _claim_known(self, works: list[Work], found: dict[UUID, Found]) -> list[Work]:
        ready: list[Work] = []
        parked: list[Work] = []
        for _ in range(_ROUNDS):
            rows = await self._store.load([work.id for work in works])
            may_take_over = self._watch_losses()  # after reading: what was read may have waited for the database
            wanted: list[_Taken] = []
            for work in works:
                if work.id not in rows:  # deleted by retention meanwhile: it is new again, later
                    parked.append(work)
                    continue
                entry, standing = rows[work.id]
                each = found[work.id]
                decision = self._decide(work, entry, standing, each, may_take_over)
                CLAIMS.labels(found=decision.name.lower()).inc()
                self._follow(decision, work, entry, _Taken(work, standing, each, decision), ready, parked, wanted)
            works = await self._take(wanted, ready)
            if not works:
                break
        await self._park(parked + works)
        return ready

    def _decide(
        self, work: Work, entry: LedgerEntry, standing: Standing, found: Found, may_take_over: bool
    ) -> Decision:
        if entry.digest != work.entry.digest:
            # The same id with other content (R5): the first one claimed wins, and its own record carries it on.
            return Decision.ANNOUNCE
        return decide(
            standing,
            work.token,
            from_due=work.due is not None,
            cancelled=found.cancelled,
            may_take_over=may_take_over,
            decided=read_intent(work.due) is not None,
        )

    def _follow(
        self,
        decision: Decision,
        work: Work,
        entry: LedgerEntry,
        taken: _Taken,
        ready: list[Work],
        parked: list[Work],
        wanted: list[_Taken],
    ) -> None:
        if decision is Decision.PARK:
            parked.append(work)
            return
        if work.mail.paced:
            _mark_paced(entry)
        work.entry = entry
        if decision is Decision.ANNOUNCE:
            work.pending, work.outcomes, work.attempt_announced = [], {}, None
            ready.append(work)
        else:
            if decision is not Decision.GO_ON:
                work.must_not_send = False  # what an earlier round read may have changed
            if decision is Decision.TAKE_OVER and self._is_out_of_tries(work):
                work.must_not_send = True
            elif decision is Decision.TAKE_OVER:
                entry.unknowns += 1
                entry.attempt += 1
            elif decision is Decision.TAKE and entry.state in (LedgerState.DEFERRED, LedgerState.HELD):
                entry.attempt += 1
            wanted.append(taken)

    def _is_out_of_tries(self, work: Work) -> bool:
        return work.mail.on_unknown == "hold" or work.entry.unknowns >= MAX_UNKNOWNS

    async def _take(self, wanted: list[_Taken], ready: list[Work]) -> list[Work]:
        """Claim as read; returns those whose row had changed."""
        if not wanted:
            return []
        asked = time.monotonic()
        times: dict[UUID, datetime] = {}
        ours = [each.work for each in wanted if each.decision is Decision.GO_ON]
        others = [(each.work, each.standing) for each in wanted if each.decision is not Decision.GO_ON]
        if ours:
            times |= await self._store.renew(ours)
        if others:
            times |= await self._store.take(others)
        for each in wanted:
            work = each.work
            if work.id not in times:
                continue
            work.entry.state = LedgerState.CLAIMED
            work.confirm_lease(asked, times[work.id])
            self._prepare(work, each.found)
            if work.must_not_send and not work.outcomes:
                work.outcomes = dict.fromkeys(work.pending, Unknown("the process that sent it died"))
            ready.append(work)
        return [each.work for each in wanted if each.work.id not in times]

    async def _park(self, works: list[Work]) -> None:
        """Somebody else holds these. A due row we hold comes again when our lease on it has ended."""
        stored = [work for work in works if work.due is None]
        if stored:
            await self._store.park(stored)
        for work in works:
            self.park_done(work)

    # --- what stands against sending ---

    def _prepare(self, work: Work, found: Found) -> None:
        entry = work.entry
        work.outcomes, work.refused = {}, {}
        if found.plain and work.due is None and not self.safety.allowed_domains and entry.expires_at > found.now:
            work.pending = entry.pending_of(work.mail.recipients)  # nothing stands against most mails
            return
        intent = read_intent(work.due)
        if work.due and intent in (Intent.SENT, Intent.FAILED):
            work.outcomes = settle_by_word(entry, work.mail.recipients, work.due, intent)
            work.pending, work.relay = list(work.outcomes), find_relay(entry)
            return
        pending = (entry.open_of if intent else entry.pending_of)(work.mail.recipients)
        if entry.expires_at <= found.now:
            # Of those that the relay may have taken nobody can say that they got nothing.
            still_open = entry.open_of(work.mail.recipients)
            if entry.in_doubt:
                work.outcomes = fail_all(still_open, "expired; the relay may have it", FailureReason.UNKNOWN)
            else:
                work.outcomes = fail_all(still_open, "expired before it could be sent", FailureReason.EXPIRED)
        elif found.cancelled:
            work.must_hold = entry.in_doubt
            if entry.in_doubt:
                work.outcomes = dict.fromkeys(pending, Unknown("cancelled by request; the relay may have it"))
            else:
                work.outcomes = fail_all(pending, "cancelled by request", FailureReason.CANCELLED)
        else:
            suppressed = [each for each in pending if each.lower() in found.suppressed] if found.suppressed else ()
            if not work.mail.test:  # that reaches nobody
                work.refused |= self.safety.refuse(pending)
            work.refused |= dict.fromkeys(suppressed, Failed(None, "suppressed", FailureReason.SUPPRESSED))
            if work.refused:
                pending = [each for each in pending if each not in work.refused]
            if not pending:
                work.outcomes = work.refused
        work.pending = pending

    def _watch_losses(self) -> bool:
        """After losing the database no claim of others is taken over for one lease: our clock stood still too."""
        losses = self._store.database.losses
        if losses != self._losses_seen:
            self._losses_seen = losses
            self._no_takeover_before = time.monotonic() + self._store.lease.total_seconds()
        return time.monotonic() >= self._no_takeover_before


def _mark_paced(entry: LedgerEntry) -> None:
    """The scheduler waits for a result of this mail, whoever published its id first."""
    if not entry.echo.get("paced"):
        entry.echo = {**entry.echo, "paced": True}
