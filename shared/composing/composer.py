"""From what a caller asked for to the event: permission to send, times, templates. Pure.

Errors are values of this module; the API translates them (refusing.py).
"""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from shared.access import ApiKey
from shared.composing.attachments import AttachmentRules, find_missing_images
from shared.events import EmailRequested, new_email_id
from shared.templates import RenderedContent, TemplateError, render_content

EXPIRY_LIMIT = timedelta(days=7)  # after release (P13)
USUAL_RULES = AttachmentRules()
_EXPIRY_ROOM = 64  # bytes; it takes the place of `send_at` or `priority`, which are shorter


class Identity(NamedTuple):
    """What makes a mail this very one: composed with the same identity again, it is the same event."""

    id: UUID
    requested_at: datetime  # whole milliseconds
    batch_id: str | None = None


class SenderNotAllowed(Exception):
    """The key may not send from the address in this field (`from`, `envelope_from`)."""

    def __init__(self, field: str) -> None:
        super().__init__(f"the API key may not send from the address in {field!r}")
        self.field = field


class TooLarge(Exception):
    """The serialised event has more bytes than the limit."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the event has {size} bytes, the limit is {limit}")
        self.size = size
        self.limit = limit


class UnacceptableFields(Exception):
    """Fields that are each well formed and still cannot be; `errors` are `[{detail, pointer}]`."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__("; ".join(error["detail"] for error in errors))
        self.errors = errors


def new_identity() -> Identity:
    """That of a mail nobody has asked for yet."""
    now = datetime.now(UTC)
    return Identity(new_email_id(), now.replace(microsecond=now.microsecond // 1000 * 1000))


def compose_full(
    mail: EmailRequested, key: ApiKey, identity: Identity, rules: AttachmentRules = USUAL_RULES
) -> EmailRequested:
    """The event of a mail in the full form. Raises SenderNotAllowed, UnacceptableFields."""
    check_senders(key, mail)
    check_expiry(mail, identity.requested_at)
    html = mail.html if mail.variables is None else _render(mail, mail.variables).html
    if faults := [*rules.find_faults(mail.attachments), *find_missing_images(html, mail.attachments)]:
        raise UnacceptableFields(faults)
    return complete(mail, key, identity)


def serialise(email: EmailRequested, limit: int) -> bytes:
    """The event's value on the topic. Raises TooLarge beyond `limit` bytes (R8).

    The scheduler writes `expires_at` in, and could only refuse what had no room for it (R4).
    """
    value = email.to_json()
    room = _EXPIRY_ROOM if email.send_at or email.priority == "bulk" else 0
    if len(value) > limit - room:
        raise TooLarge(len(value), limit)
    return value


def point_at_error(exc: TemplateError) -> dict[str, str]:
    """A template's error as one of a body's: it points at the variable that is missing, or else at the field."""
    path = ("variables", *exc.variable) if exc.variable else (exc.field,)
    pointer = "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in path)
    return {"detail": f"in {exc.field}: {exc.detail}" if exc.variable else exc.detail, "pointer": pointer}


def complete(mail: EmailRequested, key: ApiKey, identity: Identity) -> EmailRequested:
    """Add what is ours to say of a mail (R10).

    In place, though models are frozen: nobody else has this one yet, and copying it takes as long as validating it.
    """
    mail.__dict__.update(account=key.account, api_key_id=key.id, test=key.test, **identity._asdict())
    return mail


def check_senders(key: ApiKey, mail: EmailRequested) -> None:
    """Raises SenderNotAllowed."""
    check_sender(key, "from", mail.from_.address)
    if mail.envelope_from:
        check_sender(key, "envelope_from", mail.envelope_from)


def check_sender(key: ApiKey, field: str, address: str) -> None:
    """Raises SenderNotAllowed, naming the field."""
    if not key.may_send_from(address):
        raise SenderNotAllowed(field)


def check_expiry(mail: EmailRequested, now: datetime) -> None:
    """Raises UnacceptableFields where the mail would expire before it is sent, or too late."""
    if mail.expires_at is None:
        return
    release = max(mail.send_at, now) if mail.send_at else now
    if mail.expires_at <= release:
        raise UnacceptableFields([{"detail": "must lie after now and after send_at", "pointer": "/expires_at"}])
    if mail.expires_at - release > EXPIRY_LIMIT:
        detail = f"must lie at most {EXPIRY_LIMIT.days} days after send_at, or after now where there is no send_at"
        raise UnacceptableFields([{"detail": detail, "pointer": "/expires_at"}])


def _render(mail: EmailRequested, variables: dict[str, Any]) -> RenderedContent:
    """Once now, to find mistakes."""
    try:
        return render_content(mail.subject, mail.text, mail.html, variables)
    except TemplateError as exc:
        raise UnacceptableFields([point_at_error(exc)]) from None
