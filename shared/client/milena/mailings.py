"""Mailings: `client.mailings`, for keys with the scope `mailings:admin`."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, closing
from typing import Any, cast

from milena import flows
from milena import mass_calls as calls
from milena.events import Subscription
from milena.flows import Flow
from milena.handles import DEFAULT_WAIT_S
from milena.mailing_status import MailingStatus
from milena.mass_calls import MAILINGS
from milena.reach import AsyncReach, Reach
from milena.retrying import Patience


class Mailings:
    """What goes to many, and how it stands. All methods raise MilenaError."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def create(self, **mailing: Any) -> MailingStatus:
        """Make a draft: `name`, `content`, `audience` and so on, as `POST /v1/mailings` takes them.

        It is not made again by itself where no answer came: that would be another draft.
        """
        return MailingStatus.read(self._reach.ask(calls.create_mailing(mailing)))

    def read(self, mailing_id: str) -> MailingStatus:
        """What it says, and how it stands. Raises NotFound."""
        return MailingStatus.read(self._reach.ask(calls.read_mailing(mailing_id)))

    def iterate(self, *, state: str | None = None) -> Iterator[MailingStatus]:
        """All mailings, or those in one state, newest first; without content and counts."""
        for each in self._reach.iterate(calls.list_all(MAILINGS, {"state": state})):
            yield MailingStatus.read(each)

    def change(self, mailing_id: str, **changes: Any) -> MailingStatus:
        """Change what is given; of one that runs name, rate and finish_at. None takes back. Raises Conflict."""
        return MailingStatus.read(self._reach.ask(calls.change_mailing(mailing_id, changes)))

    def delete(self, mailing_id: str) -> None:
        """Delete one that has not run, or is over. Raises Conflict."""
        self._reach.ask(calls.delete_mailing(mailing_id))

    def preview(self, mailing_id: str, **choice: Any) -> dict[str, Any]:
        """What a recipient would read: one of the audience by `address`, or a `recipient` who need not exist."""
        return self._reach.ask(calls.preview_mailing(mailing_id, choice))

    def test(
        self, mailing_id: str, to: Sequence[str], *, idempotency_key: str | None = None, **choice: Any
    ) -> list[str]:
        """Send it to addresses of yours, rendered as for `preview`. Gives the ids of the mails."""
        sent = self._reach.ask(calls.test_mailing(mailing_id, {"to": list(to), **choice}, idempotency_key))
        return [str(each["id"]) for each in sent["data"]]

    def check(self, mailing_id: str) -> dict[str, Any]:
        """Count the audience and try the templates; `ready` says whether it could be started."""
        return self._reach.ask(calls.command_mailing(mailing_id, "check"))

    def start(self, mailing_id: str) -> MailingStatus:
        """Let it run, at once or from its `start_at` on."""
        return self._command(mailing_id, "start")

    def pause(self, mailing_id: str) -> MailingStatus:
        """Nothing more of it leaves, at once. Raises Conflict, as do the next three."""
        return self._command(mailing_id, "pause")

    def resume(self, mailing_id: str) -> MailingStatus:
        """It goes on where it was."""
        return self._command(mailing_id, "resume")

    def cancel(self, mailing_id: str) -> MailingStatus:
        """What has not left is not sent; there is no way back."""
        return self._command(mailing_id, "cancel")

    def retry(self, mailing_id: str, **how: Any) -> MailingStatus:
        """Another mail for those whose mail has failed until now, and for nobody else; `finish_at`, `unknown`.

        Raises Conflict where that is nobody.
        """
        return MailingStatus.read(self._reach.ask(calls.retry_mailing(mailing_id, how)))

    def recipients(
        self, mailing_id: str, *, state: str | None = None, reason: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Who got it, and who did not and why."""
        return self._reach.iterate(calls.list_recipients(mailing_id, state, reason))

    def stats(self) -> dict[str, Any]:
        """All mailings in figures: `total`, and `data`, newest first."""
        return self._reach.run(_read_stats(self._reach.patience))

    def wait(self, mailing_id: str, timeout: float = DEFAULT_WAIT_S) -> MailingStatus:
        """How it stands at its end, or when the time is over (`is_over` says which)."""
        return self._reach.run(_wait(mailing_id, timeout, self._reach.patience))

    def follow(self, mailing_id: str) -> Iterator[MailingStatus]:
        """How it stands, whenever that has changed, until its end; goes on when a connection breaks."""
        events = self._reach.listen(_subscribe(mailing_id, self._reach.patience))
        with closing(cast(Any, events)) as stream:
            for event in stream:
                status = MailingStatus.read(event.data)
                yield status
                if status.is_over:
                    return

    def _command(self, mailing_id: str, command: str) -> MailingStatus:
        return MailingStatus.read(self._reach.ask(calls.command_mailing(mailing_id, command)))


class AsyncMailings:
    """Mailings, with `await`."""

    def __init__(self, reach: AsyncReach) -> None:
        self._reach = reach

    async def create(self, **mailing: Any) -> MailingStatus:
        """See Mailings.create."""
        return MailingStatus.read(await self._reach.ask(calls.create_mailing(mailing)))

    async def read(self, mailing_id: str) -> MailingStatus:
        """See Mailings.read."""
        return MailingStatus.read(await self._reach.ask(calls.read_mailing(mailing_id)))

    async def iterate(self, *, state: str | None = None) -> AsyncIterator[MailingStatus]:
        """See Mailings.iterate."""
        async for each in self._reach.iterate(calls.list_all(MAILINGS, {"state": state})):
            yield MailingStatus.read(each)

    async def change(self, mailing_id: str, **changes: Any) -> MailingStatus:
        """See Mailings.change."""
        return MailingStatus.read(await self._reach.ask(calls.change_mailing(mailing_id, changes)))

    async def delete(self, mailing_id: str) -> None:
        """See Mailings.delete."""
        await self._reach.ask(calls.delete_mailing(mailing_id))

    async def preview(self, mailing_id: str, **choice: Any) -> dict[str, Any]:
        """See Mailings.preview."""
        return await self._reach.ask(calls.preview_mailing(mailing_id, choice))

    async def test(
        self, mailing_id: str, to: Sequence[str], *, idempotency_key: str | None = None, **choice: Any
    ) -> list[str]:
        """See Mailings.test."""
        sent = await self._reach.ask(calls.test_mailing(mailing_id, {"to": list(to), **choice}, idempotency_key))
        return [str(each["id"]) for each in sent["data"]]

    async def check(self, mailing_id: str) -> dict[str, Any]:
        """See Mailings.check."""
        return await self._reach.ask(calls.command_mailing(mailing_id, "check"))

    async def start(self, mailing_id: str) -> MailingStatus:
        """See Mailings.start."""
        return await self._command(mailing_id, "start")

    async def pause(self, mailing_id: str) -> MailingStatus:
        """See Mailings.pause."""
        return await self._command(mailing_id, "pause")

    async def resume(self, mailing_id: str) -> MailingStatus:
        """See Mailings.resume."""
        return await self._command(mailing_id, "resume")

    async def cancel(self, mailing_id: str) -> MailingStatus:
        """See Mailings.cancel."""
        return await self._command(mailing_id, "cancel")

    async def retry(self, mailing_id: str, **how: Any) -> MailingStatus:
        """See Mailings.retry."""
        return MailingStatus.read(await self._reach.ask(calls.retry_mailing(mailing_id, how)))

    def recipients(
        self, mailing_id: str, *, state: str | None = None, reason: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """See Mailings.recipients."""
        return self._reach.iterate(calls.list_recipients(mailing_id, state, reason))

    async def stats(self) -> dict[str, Any]:
        """See Mailings.stats."""
        return await self._reach.run(_read_stats(self._reach.patience))

    async def wait(self, mailing_id: str, timeout: float = DEFAULT_WAIT_S) -> MailingStatus:
        """See Mailings.wait."""
        return await self._reach.run(_wait(mailing_id, timeout, self._reach.patience))

    async def follow(self, mailing_id: str) -> AsyncIterator[MailingStatus]:
        """See Mailings.follow."""
        events = self._reach.listen(_subscribe(mailing_id, self._reach.patience))
        async with aclosing(cast(Any, events)) as stream:
            async for event in stream:
                status = MailingStatus.read(event.data)
                yield status
                if status.is_over:
                    return

    async def _command(self, mailing_id: str, command: str) -> MailingStatus:
        return MailingStatus.read(await self._reach.ask(calls.command_mailing(mailing_id, command)))


def _subscribe(mailing_id: str, patience: Patience) -> Subscription:
    return Subscription({}, patience, path=calls.name_events(mailing_id))


def _wait(mailing_id: str, timeout_s: float, patience: Patience) -> Flow[MailingStatus]:
    def read() -> Flow[MailingStatus]:
        return MailingStatus.read((yield from flows.ask(calls.read_mailing(mailing_id), patience)))

    return (yield from flows.wait_until_over(read, timeout_s, patience))


def _read_stats(patience: Patience) -> Flow[dict[str, Any]]:
    call = calls.list_all(f"{MAILINGS}/stats", {})
    stats = yield from flows.ask(call, patience)
    after = stats.pop("next", None)
    while after:
        page, after = yield from flows.read_page(call, after, patience)
        stats["data"] += page
    return stats
