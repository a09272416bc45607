"""Handles of mail that Milena does not have yet, or never will."""

from datetime import datetime
from typing import Any
from uuid import uuid4

from milena.errors import AlreadyFinal, MilenaError
from milena.handles import Handle
from milena.status import EmailStatus, Event, RecipientStatus, ScheduledEmail


class NotSent(MilenaError):
    """The mail was not handed over: its transaction is not committed, nobody was to get it, or it failed silently."""


class LateHandle(Handle):
    """The handle of a message that goes out when the transaction commits, or never: then everything raises NotSent."""

    _is_new = True

    def __init__(self, message: Any) -> None:
        self._message = message

    @property
    def id(self) -> str:
        """The mail's id."""
        return self._find().id

    @property
    def _client(self) -> Any:  # type: ignore[override]
        return self._find()._client

    def _find(self) -> Handle:
        found: Handle | None = getattr(self._message, "milena_handle", None)
        if found is None:
            raise NotSent("the mail was not handed over (yet): it goes out when the transaction commits")
        return found

    def __repr__(self) -> str:
        sent = hasattr(self._message, "milena_handle")
        return f"{type(self).__name__}({self.id if sent else None!r})"


class LocalHandle(Handle):
    """The handle of a message that another backend has taken (in tests: an outbox). It is sent, and that is all."""

    def __init__(self, recipients: list[str]) -> None:
        email_id = str(uuid4())
        super().__init__(_Outbox(recipients), email_id)


class _Outbox:
    def __init__(self, recipients: list[str]) -> None:
        self._recipients = tuple(RecipientStatus(address, "sent") for address in recipients)

    def read_status(self, email_id: str, *, is_new: bool = False) -> EmailStatus:
        return EmailStatus(email_id, "sent", complete=True, recipients=self._recipients, attempts=1)

    def wait(self, email_id: str, timeout: float) -> EmailStatus:
        return self.read_status(email_id)

    def read_timeline(self, email_id: str, *, is_new: bool = False) -> list[Event]:
        return []

    def cancel(self, email_id: str) -> None:
        raise AlreadyFinal(409, {"type": "already-final", "detail": "the mail was sent"})

    def reschedule(self, email_id: str, send_at: datetime | str, *, is_new: bool) -> ScheduledEmail:
        raise AlreadyFinal(409, {"type": "already-final", "detail": "the mail was sent"})

    def retry(self, email_id: str, *, include_unknown: bool) -> Handle:
        raise AlreadyFinal(409, {"type": "already-final", "detail": "the mail was sent"})
