"""What can be done with mailings beside starting and stopping them.

Each command is for the account of the key that asks. Raises Problem, DatabaseUnavailable.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.scheduler.mailings.bodies import MailingAdjustments, NewMailing
from services.scheduler.mailings.defining import adjust, change, define
from services.scheduler.mailings.mailing import ADJUSTABLE, EDITABLE, Mailing, MailingDefinition, MailingState
from services.scheduler.mailings.store import MailingStore, NoSuchList
from shared.access import ApiKey
from shared.cursors import mark_list, read_time_cursor, write_time_cursor
from shared.events import new_email_id
from shared.problems import Problem, invalid_content

_AFTER = "/query/after"


def find_now() -> datetime:
    """This process's clock; what is compared with it was said by a person."""
    return datetime.now(UTC)


async def find_mailing(store: MailingStore, mailing_id: UUID, key: ApiKey) -> Mailing:
    """The account's mailing. Raises Problem 404."""
    found = await store.find(key.account, mailing_id)
    if found is None:
        raise _no_such_mailing()
    return found


def refuse_state(mailing: Mailing, detail: str) -> Problem:
    """409: it does not stand where this can be done."""
    return Problem(409, "mailing-state", f"The mailing is {mailing.state}: {detail}", state=mailing.state.value)


def describe_end(mailing: Mailing) -> str:
    """What can still be done about a mailing that is over."""
    if mailing.state is MailingState.CANCELLED:
        return "there is no way back. Make another one for those who have not got it."
    return "it is over. Make another one, or try again what failed of it (`retry`)."


def refuse_forgotten(mailing: Mailing, status: int) -> None:
    """Raises Problem 409 or 410 where the mailing's recipients are not kept any more."""
    if mailing.recipients_deleted_at:
        detail = (
            "The mailing was over so long ago that its recipients are not kept any more (MILENA_MAILING_RETENTION)."
            " Its counts are; for another mail, make another mailing."
        )
        raise Problem(status, "aged-out", detail)


def refuse_test_key(key: ApiKey, mailing: Mailing) -> None:
    """Raises Problem 403 where a test key would change what is sent in earnest."""
    if key.test and not mailing.test:
        raise Problem(403, "test-key", "A test key changes only mailings that were made with one.")


class Mailings:
    """The commands. `event_limit`: bytes of an event."""

    def __init__(self, store: MailingStore, event_limit: int, now: Callable[[], datetime] = find_now) -> None:
        self._store = store
        self._event_limit = event_limit
        self._now = now

    async def create(self, key: ApiKey, wanted: NewMailing) -> Mailing:
        """Make a draft."""
        definition = define(wanted, key, self._now(), self._event_limit)
        try:
            return await self._store.create(new_email_id(), key, definition)
        except NoSuchList:
            raise _no_such_list() from None

    async def list_some(
        self, key: ApiKey, state: MailingState | None, after: str | None, limit: int
    ) -> tuple[list[Mailing], str | None]:
        """Mailings, newest first, and the cursor of the next page where there are more."""
        mark = mark_list(key.account, state or "")
        position = read_time_cursor(after, _AFTER, mark) if after else None
        found = await self._store.list_page(key.account, state, position, limit + 1)
        shown = found[:limit]
        more = len(found) > limit
        return shown, write_time_cursor(shown[-1].created_at, shown[-1].id, mark) if more else None

    async def change(self, key: ApiKey, mailing_id: UUID, given: dict[str, Any]) -> Mailing:
        """Change what is given of a mailing; of one that runs name, rate and end."""

        def redefine(mailing: Mailing) -> MailingDefinition:
            refuse_test_key(key, mailing)
            if mailing.state in ADJUSTABLE:
                _refuse_fixed(mailing, given)
                return adjust(mailing.definition, given, self._now())
            if mailing.state not in EDITABLE:
                raise refuse_state(mailing, describe_end(mailing))
            return change(mailing.definition, given, key, self._now(), self._event_limit)

        try:
            changed = await self._store.update(key.account, mailing_id, redefine)
        except NoSuchList:
            raise _no_such_list() from None
        if changed is None:
            raise _no_such_mailing()
        return changed

    async def delete(self, key: ApiKey, mailing_id: UUID) -> None:
        """Delete a mailing that has not run, or is over."""
        mailing = await find_mailing(self._store, mailing_id, key)
        refuse_test_key(key, mailing)
        if not await self._store.delete(key.account, mailing_id):
            mailing = await find_mailing(self._store, mailing_id, key)
            detail = "some of its mails have no end yet. Cancel it, and wait for that."
            if mailing.finished_at:
                detail = "its end is about to be told on schedule.tick. Try again in a second."
            raise refuse_state(mailing, detail)


def _refuse_fixed(mailing: Mailing, given: Mapping[str, Any]) -> None:
    """Raises Problem 409 where something is to change that those who got it already have."""
    if fixed := sorted((given.keys() & NewMailing.model_fields.keys()) - MailingAdjustments.model_fields.keys()):
        detail = (
            f"{', '.join(fixed)} cannot be changed any more; `name`, `rate` and `finish_at` can."
            " Cancel it, and make another one for those who have not got it."
        )
        raise refuse_state(mailing, detail)


def _no_such_mailing() -> Problem:
    return Problem(404, "not-found", "Your account has no such mailing.")


def _no_such_list() -> Problem:
    detail = "the account has no such list, or its upload is not whole"
    return invalid_content([{"detail": detail, "pointer": "/audience/list"}])
