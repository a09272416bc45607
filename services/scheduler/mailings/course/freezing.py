"""An audience becomes rows of bulk mail, one for each recipient: what is written of them. Pure."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from services.scheduler.mailings.mailing import Mailing, MailingDefinition
from services.scheduler.mailings.states import UNSUBSCRIBED
from services.scheduler.mailings.variables import fill_in
from services.scheduler.pacing.rows import ROOM, write_content, write_own
from services.scheduler.pacing.states import BulkState
from services.scheduler.unsubscribing.links import LINK_ROOM
from shared.addresses import Mailbox
from shared.events import BulkRequested
from shared.events.identity import name_mails
from shared.states import FailureReason

_SOMEBODY = {"to": "somebody@example.org"}


class Addressee(NamedTuple):
    """Somebody of an audience, as it is taken in."""

    recipient: UUID
    address: str
    name: str
    zone: str | None
    variables: dict[str, Any]
    unsubscribed: bool


class MailingRow(NamedTuple):
    """One recipient's row. `own` is a bulk event's entry without `id`."""

    id: UUID
    recipient: UUID
    number: int
    due_at: datetime
    expires_at: datetime | None
    own: bytes
    zone: str | None
    state: BulkState
    reason: str | None
    detail: str | None


class Turns:
    """When mail may leave that waits from `now` on, by its recipient's hours: one answer for each zone.

    The mailing's end is its lane's, and may be moved: what is written of a mail does not hold it.
    """

    def __init__(self, definition: MailingDefinition, now: datetime) -> None:
        self._hours, self._finish_at, self._now = definition.hours, definition.finish_at, now
        self._known: dict[str | None, tuple[datetime, datetime | None]] = {}

    def find(self, zone: str | None) -> tuple[datetime, datetime | None]:
        """Not before the one, and before the other."""
        found = self._known.get(zone)
        if found is None:
            found = self._known[zone] = self._find(zone)
        return found

    def has_one(self, zone: str | None) -> bool:
        """Whether its turn comes before the mailing's end, as that is now."""
        return self._finish_at is None or self.find(zone)[0] < self._finish_at

    def _find(self, zone: str | None) -> tuple[datetime, datetime | None]:
        if self._hours is None:
            return self._now, None
        window = self._hours.next_window(self._now, zone)
        assert window is not None, "there is one every day"
        return window.start, window.end


class Freezer:
    """Makes the rows of one mailing. `event_limit`: bytes of an event."""

    def __init__(self, mailing: Mailing, event_limit: int) -> None:
        self._mailing = mailing
        self._name: Callable[[UUID, int], UUID] = name_mails(mailing.id)
        self.content = write_content(_write_event(mailing))
        self._room = event_limit - len(self.content) - ROOM - (LINK_ROOM if mailing.definition.unsubscribe else 0)

    def make_rows(self, addressees: Iterable[Addressee], number: int, now: datetime) -> list[MailingRow]:
        """The rows of recipients, whose numbers follow `number`."""
        turns = Turns(self._mailing.definition, now)
        return [self._make_row(each, place, turns) for place, each in enumerate(addressees, number + 1)]

    def _make_row(self, who: Addressee, number: int, turns: Turns) -> MailingRow:
        own = write_own(
            Mailbox(who.address, who.name), fill_in(who.address, who.name, who.variables), metadata={}, retry_of=None
        )
        state, reason, detail = BulkState.PENDING, None, None
        if who.unsubscribed:
            state, reason = BulkState.SKIPPED, UNSUBSCRIBED
        elif len(own) > self._room:
            state, reason = BulkState.FAILED, FailureReason.INVALID_REQUEST.value
            detail = f"name and variables have {len(own)} bytes; the content leaves {self._room}"
        due_at, expires_at = turns.find(who.zone)
        mail_id = self._name(who.recipient, 0)
        return MailingRow(mail_id, who.recipient, number, due_at, expires_at, own, who.zone, state, reason, detail)


def _write_event(mailing: Mailing) -> BulkRequested:
    """The content as an event that nobody gets."""
    return BulkRequested.model_validate(
        {
            **mailing.definition.content,
            "mails": [_SOMEBODY],
            "account": mailing.account,
            "api_key_id": mailing.api_key_id,
            "test": mailing.test,
            "mailing_id": str(mailing.id),
            "requested_at": mailing.started_at,
        }
    )
