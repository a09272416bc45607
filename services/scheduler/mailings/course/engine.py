"""What becomes of mailings that have been started: the work of their three jobs, for one account at a time.

Everything it does may happen twice, at the same time or after a death anywhere in between. Raises DatabaseUnavailable.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import orjson
import structlog

from services.scheduler.mailings.course.finish_store import FinishStore
from services.scheduler.mailings.course.freeze_store import FreezeStore, Place
from services.scheduler.mailings.course.freezing import Freezer, Turns
from services.scheduler.mailings.course.round_store import LISTENED_EVERY, Failed, Renewed, Rounds, RoundStore
from services.scheduler.mailings.mailing import Mailing
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.pacing.rows import hash_content
from shared.events.identity import name_mails

log = structlog.get_logger(__name__)

_FROZEN_AT_ONCE, _MOVED_AT_ONCE = 1000, 5000


@dataclass(frozen=True, slots=True)
class EnginePolicy:
    """`repeat_after`: silence after which mail is handed out again; `event_limit`: bytes of an event."""

    repeat_after: timedelta
    event_limit: int


class Engine:
    """As `job.MailingWork` wants it."""

    def __init__(
        self, freezes: FreezeStore, rounds: RoundStore, ends: FinishStore, bulk: BulkStore, policy: EnginePolicy
    ) -> None:
        self._freezes = freezes
        self._rounds = rounds
        self._ends = ends
        self._bulk = bulk
        self._policy = policy

    async def start(self, account: str) -> Mapping[str, int]:
        """Start what is due, take its audience in, and give mail another turn that failed or was not heard of."""
        begun = await self._freezes.begin_due(account)
        await self._rounds.listen(min(LISTENED_EVERY, self._policy.repeat_after / 2))
        repeated = await self._rounds.repeat(account, self._policy.repeat_after)
        renewed = sum([await self._renew(each) for each in await self._rounds.list_open(account)])
        taken_in = 0
        while leased := await self._freezes.lease(account):
            taken_in += await self._freeze(*leased)
        return {"started": begun, "recipients": taken_in, "repeated": repeated, "next_round": renewed}

    async def send(self, account: str) -> Mapping[str, int]:
        """Give mail whose hours have ended before its turn came its next hours, and tell how mail goes."""
        moved = 0
        for each in await self._rounds.list_waiting(account):
            moved += await self._move(each.mailing)
        tally = await self._ends.count(account)
        return {**tally._asdict(), "next_hours": moved}

    async def finish(self, account: str) -> Mapping[str, int]:
        """Fail what was never handed out and whose time is over; finish mailings all of whose mails have their end."""
        failed, finished = await self._ends.fail_unsent(account), 0
        for each in await self._rounds.list_ending(account):
            if not await self._renew(each) and await self._ends.finish(self._rounds, each):
                finished += 1
                log.info("mailing finished", mailing_id=str(each.mailing.id), recipients=each.mailing.recipients)
        cancelled = await self._ends.end_cancelled(account)
        return {"never_sent": failed, "finished": finished, "cancelled": len(cancelled)}

    async def _freeze(self, mailing: Mailing, place: Place) -> int:
        """Take an audience in until it is all there, or somebody else does."""
        freezer, content = await self._keep_content(mailing)
        before, is_last = place.recipients, False
        while not is_last:
            found = await self._freezes.read(mailing, place, _FROZEN_AT_ONCE)
            is_last = len(found) < _FROZEN_AT_ONCE
            rows = freezer.make_rows(found, place.recipients, place.now)
            kept = await self._freezes.keep(mailing, place, content, rows, is_last=is_last)
            if kept is None:
                return place.recipients - before
            place = kept
        log.info("audience taken in", mailing_id=str(mailing.id), recipients=place.recipients)
        return place.recipients - before

    async def _keep_content(self, mailing: Mailing) -> tuple[Freezer, UUID]:
        """What the mails share, which is deleted once it was not used for long enough."""
        assert mailing.lane is not None, "it has one since it began"
        freezer = Freezer(mailing, self._policy.event_limit)
        content = hash_content(freezer.content)
        await self._bulk.keep_contents([(mailing.lane, content, freezer.content)])
        return freezer, content

    async def _renew(self, rounds: Rounds) -> int:
        """Give those of a mailing another round who get one."""
        mailing, total = rounds.mailing, 0
        turns, name = Turns(mailing.definition, rounds.now), name_mails(mailing.id)
        content = None
        while found := await self._rounds.list_failed(rounds):
            late = [each.id for each in found if not turns.has_one(each.zone)]
            if late:
                await self._rounds.close(late)
            again = [
                _renew(each, name(each.recipient, each.round + 1), turns) for each in found if turns.has_one(each.zone)
            ]
            if not again:
                continue
            if content is None:
                _, content = await self._keep_content(mailing)
            renewed = await self._rounds.renew(mailing, content, again)
            total += renewed
            if not renewed:
                return total  # somebody else is at it, and will say when all have been renewed
        if rounds.retry_before:
            await self._rounds.end_retry(rounds)
        return total

    async def _move(self, mailing: Mailing) -> int:
        total, moved = 0, 1
        while moved:
            zones, now = await self._rounds.list_late_zones(mailing, _MOVED_AT_ONCE)
            if now is None:
                break
            turns = Turns(mailing.definition, now)
            moved = await self._rounds.move(mailing, {zone: turns.find(zone) for zone in zones}, _MOVED_AT_ONCE)
            total += moved
        return total


def _renew(failed: Failed, mail_id: UUID, turns: Turns) -> Renewed:
    """The next mail of a recipient; it tells which one it takes the place of."""
    own = orjson.dumps(orjson.loads(failed.own) | {"retry_of": str(failed.id)})
    return Renewed(failed.id, mail_id, *turns.find(failed.zone), own)
