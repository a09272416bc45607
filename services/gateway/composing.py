"""From the simple form, and from a mail that came by SMTP, to the event; the full form is shared/composing's. Pure."""

import re
from typing import TYPE_CHECKING

from inscriptis import get_text  # type: ignore[import-untyped]
from inscriptis.css_profiles import CSS_PROFILES  # type: ignore[import-untyped]
from inscriptis.model.config import ParserConfig  # type: ignore[import-untyped]
from lxml.etree import LxmlError  # type: ignore[import-untyped]

from shared.access import ApiKey
from shared.composing.attachments import AttachmentRules
from shared.composing.composer import (
    USUAL_RULES,
    Identity,
    UnacceptableFields,
    check_sender,
    check_senders,
    complete,
    new_identity,
)
from shared.events import EmailRequested, Namespace
from shared.events.identity import MESSAGE_NAMESPACE

if TYPE_CHECKING:  # the SMTP ingest composes, too, and has no use for FastAPI
    from services.gateway.bodies import SimpleEmail

_TEXT_RULES = ParserConfig(css=CSS_PROFILES["strict"], display_links=True)
_DEFAULTS = {
    name: field.get_default(call_default_factory=True, validated_data={})
    for name, field in EmailRequested.model_fields.items()
    if not field.is_required()
}
_RECEIVED = Namespace(MESSAGE_NAMESPACE)
_MARKUP = re.compile(r"<[^>]*>")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def compose_simple(mail: "SimpleEmail", key: ApiKey, identity: Identity) -> EmailRequested:
    """The event of a mail in the simple form. Raises SenderNotAllowed."""
    check_sender(key, "from", mail.from_.address)
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
    return complete(event, key, identity)


def compose_received(
    mail: EmailRequested, key: ApiKey, message_id: str | None, rules: AttachmentRules = USUAL_RULES
) -> EmailRequested:
    """The event of a mail that came by SMTP. Raises SenderNotAllowed, UnacceptableFields.

    A client that has not heard our 250 sends the mail once more. So the same message (Message-ID, content, envelope)
    of one account has the same id, and the ledger sees to it that it is sent once.
    """
    check_senders(key, mail)
    if faults := rules.find_faults(mail.attachments):
        raise UnacceptableFields(faults)
    event = complete(mail, key, new_identity())
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
