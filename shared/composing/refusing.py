"""What a caller is told where his mail cannot be: the problems for what composing and accepting raise."""

from collections.abc import Callable
from typing import TypeVar

from shared.access import ApiKey
from shared.composing.composer import Identity, SenderNotAllowed, TooLarge, UnacceptableFields
from shared.events import EmailRequested
from shared.problems import Problem, invalid_content

Mail = TypeVar("Mail")


def compose(
    write: Callable[[Mail, ApiKey, Identity], EmailRequested], mail: Mail, key: ApiKey, identity: Identity
) -> EmailRequested:
    """The event that `write` (compose_simple, compose_full) makes of a mail. Raises Problem 403, 422."""
    try:
        return write(mail, key, identity)
    except SenderNotAllowed as exc:
        raise refuse_sender(exc.field) from None
    except UnacceptableFields as exc:
        raise invalid_content(exc.errors) from None


def refuse_sender(field: str, under: str = "") -> Problem:
    """403: the key may not send from the address in this field; `under` is the pointer of what holds it."""
    detail = "is not among the senders of this API key"
    errors = [{"detail": detail, "pointer": f"{under}/{field}"}]
    return Problem(403, "sender-not-allowed", f"{field} {detail}.", errors=errors)


def explain_size(exc: TooLarge) -> Problem:
    """413 with the limit."""
    detail = f"A mail may have at most {exc.limit} bytes as an event, everything included; this has {exc.size}."
    return Problem(413, "too-large", detail, limit=exc.limit)
