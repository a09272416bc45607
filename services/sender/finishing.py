"""Outcomes become the ledger's, and then events: the stages settle and publish, and the acknowledgement after them."""

import structlog

from services.sender.announcing import Announcer
from services.sender.claiming import Claiming
from services.sender.entrance import Entrance
from services.sender.ledger import LedgerState
from services.sender.retries import RetryPolicy
from services.sender.simulator import hasten
from services.sender.store import SenderStore
from services.sender.surroundings import LINGER_S, OnBug, Surroundings, create_stage
from services.sender.work import Work
from shared.metrics import ACCEPTED_TO_SENT, MAILS_SETTLED, observe_all

log = structlog.get_logger(__name__)

_SETTLED = {state: MAILS_SETTLED.labels(outcome=state.value) for state in LedgerState}


class Finishing:
    """Settles, tells, and lets go of the tickets. What turns out to be somebody else's goes back to `claim`."""

    def __init__(
        self,
        around: Surroundings,
        store: SenderStore,
        announcer: Announcer,
        claiming: Claiming,
        retries: RetryPolicy,
        *,
        claim: Entrance,
        on_bug: OnBug,
    ) -> None:
        self._around = around
        self._store = store
        self._announcer = announcer
        self._claiming = claiming
        self._retries = retries
        self._test_retries = hasten(retries)
        self._claim = claim
        self.settle = create_stage("settle", self._settle_group, on_bug, linger_s=LINGER_S)
        self.publish = create_stage("publish", self._publish_group, on_bug, runners=4)

    async def _settle_group(self, works: list[Work]) -> None:
        self._apply([work for work in works if work.outcomes])  # once, however often the statement is repeated
        if self._around.suppress:  # before, so that it may be repeated
            await self._around.suppress([work.entry for work in works])
        lost = await self._store.settle(works)
        self.publish.put_all(work for work in works if work.id not in lost)
        for work in works if lost else ():
            if work.id in lost:
                self._on_lost(work)

    def _on_lost(self, work: Work) -> None:
        """Somebody took the mail over, or the answer to the first try was lost: the ledger decides."""
        log.warning("settle found the claim gone", email_id=str(work.id))
        if work.due:
            work.due.columns["announced"] = False  # what this attempt brought may not have been told
        self._claiming.give_up(work)
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
            retries = self._test_retries if work.mail.test else self._retries
            entry.apply(outcomes, now, retries, relay=work.relay, hold=hold)
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
            for ticket in self._claiming.end(work):
                self._around.lane.finish(ticket)
