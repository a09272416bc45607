"""`EMAIL_BACKEND = "milena.django.EmailBackend"`: what Django sends goes to Milena.

An accepted message gets the attribute `milena_handle`.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, TypeAlias

from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction

from milena.client import Client
from milena.django import outbox
from milena.django.composing import compose_message
from milena.django.settings import connect, read_commit_alias, read_configuration
from milena.errors import ApiError, MilenaError
from milena.handles import Handle

Ready: TypeAlias = list[tuple[Any, dict[str, Any]]]
"""Messages, and the mails they have become."""


class EmailBackend(BaseEmailBackend):
    """Hands messages over; they are accepted, and kept, when `send_messages` returns, or when the transaction commits.

    `url`, `api_key`, `on_commit` (bool or a database's alias) are for MAILERS and get_connection(); the settings
    MILENA_URL, MILENA_API_KEY and MILENA_ON_COMMIT stand for them. Errors are MilenaErrors.
    """

    def __init__(
        self,
        fail_silently: bool = False,
        *,
        url: str | None = None,
        api_key: str | None = None,
        on_commit: bool | str | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("alias") is None:
            for name in ("username", "password"):  # auth_user and auth_password of send_mail are SMTP's
                kwargs.pop(name, None)
        super().__init__(**kwargs)
        self.fail_silently = fail_silently
        self._url, self._api_key, self._on_commit = url, api_key, on_commit
        self._client: Client | None = None

    def open(self) -> bool:
        """Find the process's client, whose connections stay open; tells whether that was to be done."""
        if self._client is not None:
            return False
        self._client = connect(read_configuration(self._url, self._api_key))
        return True

    def close(self) -> None:
        """Let go of the client; its connections serve the next backend."""
        self._client = None

    def send_messages(self, email_messages: Iterable[Any]) -> int:
        """Gives how many messages were accepted, or will be sent at the commit; those without recipients do not count.

        Of several, those that are acceptable are accepted; then the first error is raised.
        """
        ready = [(message, compose_message(message)) for message in email_messages or () if message.recipients()]
        if not ready:
            return 0
        alias = self.find_commit_alias()
        if alias is None:
            return self._deliver(ready)
        transaction.on_commit(partial(self._deliver, ready), using=alias)
        return len(ready)

    def find_commit_alias(self) -> str | None:
        """The database whose commit mail waits for."""
        if self._on_commit is None:
            return read_commit_alias()
        return self._on_commit if isinstance(self._on_commit, str) else ("default" if self._on_commit else None)

    def _deliver(self, ready: Ready) -> int:
        collected = outbox.collect(ready)
        try:
            return self._note(ready, collected if collected is not None else self._hand_over(ready))
        except MilenaError:
            if not self.fail_silently:
                raise
            return 0

    def _hand_over(self, ready: Ready) -> list[Handle | MilenaError]:
        is_new = self.open()
        assert self._client is not None
        try:
            return _send(self._client, [mail for _, mail in ready])
        finally:
            if is_new:
                self.close()

    def _note(self, ready: Ready, results: list[Handle | MilenaError]) -> int:
        errors = []
        for (message, _), result in zip(ready, results, strict=True):
            if isinstance(result, MilenaError):
                errors.append(result)
            else:
                message.milena_handle = result
        accepted = len(ready) - len(errors)
        if errors and not self.fail_silently:
            errors[0].add_note(f"{accepted} of {len(ready)} messages were accepted")
            raise errors[0]
        return accepted


def _send(client: Client, mails: list[dict[str, Any]]) -> list[Handle | MilenaError]:
    if len(mails) == 1:
        return [client.send(**mails[0])]
    if not any("idempotency_key" in mail for mail in mails):
        return client.send_batch(mails)
    return [_send_one(client, mail) for mail in mails]  # a key is for a request of its own


def _send_one(client: Client, mail: dict[str, Any]) -> Handle | MilenaError:
    try:
        return client.send(**mail)
    except ApiError as exc:
        return exc
