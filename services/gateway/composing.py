"""From what a caller asked for to the event: permission to send, times, templates, the derived text. Pure.

Errors are values of this module; the API translates them.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from inscriptis import get_text  # type: ignore[import-untyped]
from inscriptis.css_profiles import CSS_PROFILES  # type: ignore[import-untyped]
from inscriptis.model.config import ParserConfig  # type: ignore[import-untyped]
from lxml.etree import LxmlError  # type: ignore[import-untyped]

from services.gateway.attachments import AttachmentRules, find_missing_images
from shared.access import ApiKey
from shared.events import EmailRequested, Namespace, new_email_id
from shared.events.identity import MESSAGE_NAMESPACE
from shared.templates import RenderedContent, TemplateError, render_content

if TYPE_CHECKING:  # the SMTP ingest composes, too, and has no use for FastAPI
    from services.gateway.bodies import SimpleEmail

EXPIRY_LIMIT = timedelta(days=7)  # after release (P13)
_TEXT_RULES = ParserConfig(css=CSS_PROFILES["strict"], display_links=True)
_DEFAULTS = {
    name: field.get_default(call_default_factory=True, validated_data={})
    for name, field in EmailRequested.model_fields.items()
    if not field.is_required()
}
_RECEIVED = Namespace(MESSAGE_NAMESPACE)
_USUAL_RULES = AttachmentRules()
_MARKUP = re.compile(r"<[^>]*>")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


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


class UnacceptableFields(Exception):
    """Fields that are each well formed and still cannot be; `errors` are `[{detail, pointer}]`."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__("; ".join(error["detail"] for error in errors))
        self.errors = errors


def new_identity() -> Identity:
    """That of a mail nobody has asked for yet."""
    now = datetime.now(UTC)
    return Identity(new_email_id(), now.replace(microsecond=now.microsecond // 1000 * 1000))


def compose_simple(mail: "SimpleEmail", key: ApiKey, identity: Identity) -> EmailRequested:
    """The event of a mail in the simple form. Raises SenderNotAllowed."""
    _check_sender(key, "from", mail.from_.address)
    # Constructed, not validated: every field has been. With all defaults given, none is copied for each mail.
    event = EmailRequested.model_construct(
        **{
            **_DEFAULTS,
            "from_": mail.from_,
            "to": mail.to,
            "subject": mail.subject,
            "text": mail.text_content or derive_text(mail.html_content),
            "html": mail.html_content,
            "callback": mail.callback,
        }
    )
    return _complete(event, key, identity)


def compose_full(
    mail: EmailRequested, key: ApiKey, identity: Identity, rules: AttachmentRules = _USUAL_RULES
) -> EmailRequested:
    """The event of a mail in the full form. Raises SenderNotAllowed, UnacceptableFields."""
    _check_senders(key, mail)
    _check_expiry(mail, identity.requested_at)
    html = mail.html if mail.variables is None else _render(mail, mail.variables).html
    if faults := [*rules.find_faults(mail.attachments), *find_missing_images(html, mail.attachments)]:
        raise UnacceptableFields(faults)
    return _complete(mail, key, identity)


def compose_received(
    mail: EmailRequested, key: ApiKey, message_id: str | None, rules: AttachmentRules = _USUAL_RULES
) -> EmailRequested:
    """The event of a mail that came by SMTP. Raises SenderNotAllowed, UnacceptableFields.

    A client that has not heard our 250 sends the mail once more. So the same message (Message-ID, content, envelope)
    of one account has the same id, and the ledger sees to it that it is sent once.
    """
    _check_senders(key, mail)
    if faults := rules.find_faults(mail.attachments):
        raise UnacceptableFields(faults)
    event = _complete(mail, key, new_identity())
    if message_id is None:
        return event
    named = _RECEIVED.name(f"{key.account}\n{message_id}\n{event.compute_digest()}")
    return event.model_copy(update={"id": named})


def derive_text(html: str) -> str:
    """The text part of a mail that has only HTML: its words, with links, without layout."""
    try:
        text = get_text(_CONTROL.sub("", html), _TEXT_RULES)
    except (LxmlError, ValueError, RecursionError):
        text = ""
    if not text.strip():  # beyond repair as HTML; its words are still worth sending
        text = _MARKUP.sub(" ", html)
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return "\n".join(lines) + "\n"


def point_at_error(exc: TemplateError) -> dict[str, str]:
    """A template's error as one of a body's: it points at the variable that is missing, or else at the field."""
    path = ("variables", *exc.variable) if exc.variable else (exc.field,)
    pointer = "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in path)
    return {"detail": f"in {exc.field}: {exc.detail}" if exc.variable else exc.detail, "pointer": pointer}


def _complete(mail: EmailRequested, key: ApiKey, identity: Identity) -> EmailRequested:
    """Add what the gateway has to say of a mail (R10).

    In place, though models are frozen: nobody else has this one yet, and copying it takes as long as validating it.
    """
    mail.__dict__.update(account=key.account, api_key_id=key.id, test=key.test, **identity._asdict())
    return mail


def _check_senders(key: ApiKey, mail: EmailRequested) -> None:
    _check_sender(key, "from", mail.from_.address)
    if mail.envelope_from:
        _check_sender(key, "envelope_from", mail.envelope_from)


def _check_sender(key: ApiKey, field: str, address: str) -> None:
    if not key.may_send_from(address):
        raise SenderNotAllowed(field)


def _check_expiry(mail: EmailRequested, now: datetime) -> None:
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
