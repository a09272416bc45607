"""Starting a mailing, stopping it, and trying again what failed.

Each command is for the account of the key that asks, and done twice it is done once. Raises Problem,
DatabaseUnavailable.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

from services.scheduler.mailings.bodies import RetryRequest
from services.scheduler.mailings.commands import (
    describe_end,
    find_mailing,
    find_now,
    refuse_forgotten,
    refuse_state,
    refuse_test_key,
)
from services.scheduler.mailings.control.store import ControlStore, Spared
from services.scheduler.mailings.course.asking_store import START, AskingStore
from services.scheduler.mailings.mailing import Mailing, MailingState
from services.scheduler.mailings.store import MailingStore
from services.scheduler.mailings.trials.trials import Trials
from shared.access import ApiKey
from shared.problems import Problem, invalid_content

_HAS_STARTED = (MailingState.SCHEDULED, MailingState.RUNNING, MailingState.PAUSED)
_TRIES = 20
Change = Callable[[UUID], Awaitable[Mailing | None]]


class MailingControl:
    """The commands. `check_every_s`: how often the tasks of mailings are to run."""

    def __init__(
        self,
        store: MailingStore,
        control: ControlStore,
        asking: AskingStore,
        trials: Trials,
        check_every_s: int,
        now: Callable[[], datetime] = find_now,
    ) -> None:
        self._store = store
        self._control = control
        self._asking = asking
        self._trials = trials
        self._check_every_s = check_every_s
        self._now = now

    async def start(self, key: ApiKey, mailing_id: UUID) -> Mailing:
        """Let a draft run, at once or from its `start_at` on."""
        for _ in range(_TRIES):
            mailing = await find_mailing(self._store, mailing_id, key)
            refuse_test_key(key, mailing)
            if mailing.state in _HAS_STARTED:
                return mailing
            if mailing.state is not MailingState.DRAFT:
                raise refuse_state(mailing, describe_end(mailing))
            await self._trials.refuse_unready(key, mailing)
            await self._asking.seed(mailing.account, self._check_every_s)
            started = await self._control.start(mailing)
            if started:
                await self._asking.ask(mailing.account, START)
                return started
        raise refuse_state(mailing, "it is being changed again and again.")

    async def pause(self, key: ApiKey, mailing_id: UUID) -> Mailing:
        """Nothing more of it leaves, at once."""
        return await self._change(
            key, mailing_id, self._control.pause, MailingState.PAUSED, "only one that runs pauses."
        )

    async def resume(self, key: ApiKey, mailing_id: UUID) -> Mailing:
        """It goes on where it was."""
        detail = "only one that is paused can go on."
        return await self._change(key, mailing_id, self._control.resume, MailingState.RUNNING, detail)

    async def cancel(self, key: ApiKey, mailing_id: UUID) -> Mailing:
        """What has not left will not be sent."""
        detail = "only one that was started and is not over can be cancelled."
        return await self._change(key, mailing_id, self._control.cancel, MailingState.CANCELLED, detail)

    async def retry(self, key: ApiKey, mailing_id: UUID, wanted: RetryRequest) -> Mailing:
        """Another round for those that have failed, and only for them."""
        mailing = await find_mailing(self._store, mailing_id, key)
        refuse_test_key(key, mailing)
        if mailing.state is MailingState.CANCELLED:
            raise refuse_state(mailing, describe_end(mailing))
        if mailing.frozen_at is None:
            raise refuse_state(mailing, "only one whose recipients have all been taken in can be tried again.")
        refuse_forgotten(mailing, 409)
        given = "finish_at" in wanted.model_fields_set
        finish_at = wanted.finish_at if given else mailing.definition.finish_at
        if finish_at and finish_at <= self._now():
            detail = "lies in the past" if given else "the mailing's own lies in the past; give a later one, or null"
            raise invalid_content([{"detail": detail, "pointer": "/finish_at"}])
        again = await self._control.retry(mailing_id, wanted.finish_at, moves=given, unknown=wanted.unknown)
        if again is None:
            raise refuse_retry(await self._control.count_spared(mailing_id))
        await self._asking.ask(mailing.account, START)
        return again

    async def _change(self, key: ApiKey, mailing_id: UUID, change: Change, into: MailingState, detail: str) -> Mailing:
        mailing = await find_mailing(self._store, mailing_id, key)
        refuse_test_key(key, mailing)
        changed = await change(mailing_id)
        if changed:
            return changed
        mailing = await find_mailing(self._store, mailing_id, key)
        if mailing.state is into:
            return mailing
        raise refuse_state(mailing, detail)


def refuse_retry(spared: Spared) -> Problem:
    """Nobody would get another mail; whoever asked hears why those who failed do not."""
    whys = [
        (spared.unknown, "may have it already: nobody knows the outcome. To send it nonetheless, give `unknown: true`"),
        (spared.too_large, "cannot get it: with the variables it is too large for an event"),
        (spared.gone, "cannot get it: the recipient was erased, or what the mail said is gone"),
    ]
    told = "; ".join(f"{count} {why}" for count, why in whys if count)
    detail = f"Of those whose mail failed nobody can be tried again: {told}." if told else "None of its mails failed."
    return Problem(409, "nothing-to-retry", detail, **spared._asdict())
