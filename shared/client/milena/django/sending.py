"""`send_mail` with Django's signature, and `send_mail.delay(...)`, which gives a handle."""

import inspect
from collections.abc import Sequence
from typing import Any

from django.core import mail
from django.core.mail import EmailMultiAlternatives

from milena.django.backend import EmailBackend
from milena.django.handles import LateHandle, LocalHandle
from milena.errors import MilenaError
from milena.handles import Handle


class SendMail:
    """Django's `send_mail`, through the configured backend, with `delay` in the place of a task's."""

    __name__ = "send_mail"
    __doc__ = mail.send_mail.__doc__
    __signature__ = inspect.signature(mail.send_mail)

    def __call__(self, *args: Any, **kwargs: Any) -> int:
        """See django.core.mail.send_mail."""
        sent: int = mail.send_mail(*args, **kwargs)
        return sent

    def delay(
        self,
        subject: str,
        message: str,
        from_email: str | None,
        recipient_list: Sequence[str],
        fail_silently: bool = False,
        auth_user: str | None = None,
        auth_password: str | None = None,
        connection: Any = None,
        html_message: str | None = None,
        *,
        using: str | None = None,
        **milena: Any,
    ) -> Handle:
        """Hand one message over and give its handle. Where nobody is to get it, or it failed silently, that has no id.

        `milena`: what else Milena knows of a mail: tags, metadata, send_at, callback, idempotency_key, …
        """
        email = EmailMultiAlternatives(subject, message, from_email, recipient_list)
        if html_message:
            email.attach_alternative(html_message, "text/html")
        email.milena = milena
        backend = connection or _connect(using)
        if fail_silently and not connection:
            backend.fail_silently = True  # also when it waits for the commit
        try:
            taken = backend.send_messages([email])
        except MilenaError:
            if not fail_silently:
                raise
            taken = 0
        if isinstance(backend, EmailBackend) or not taken:
            return getattr(email, "milena_handle", None) or LateHandle(email)
        return LocalHandle(email.recipients())

    def __repr__(self) -> str:
        return "<milena.django.send_mail>"


def _connect(using: str | None) -> Any:
    mailers = getattr(mail, "mailers", None)  # Django 6.1 and later
    if mailers is None:
        return mail.get_connection()
    return mailers.default if using is None else mailers[using]


send_mail = SendMail()
