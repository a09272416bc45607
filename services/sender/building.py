"""From a mail and its ledger entry to the message's bytes, the same whenever it is built (R12). Pure."""

from services.sender.form import FormMemo, fill_in
from services.sender.ledger import LedgerEntry
from services.sender.message import BuiltMessage, build_message, identify
from shared.events import EmailRequested
from shared.templates import RenderedContent, render_content


def build_mail(mail: EmailRequested, entry: LedgerEntry, memo: FormMemo | None = None) -> BuiltMessage:
    """Render what is a template and build the message. Raises TemplateError."""
    identity = identify(entry.id, entry.message_id, entry.accepted_at)
    if memo is not None:
        filled = fill_in(mail, identity, memo)
        if filled is not None:
            return filled
    return build_message(mail, _render(mail), identity, memo)


def _render(mail: EmailRequested) -> RenderedContent:
    variables = mail.own_variables
    if variables is None:
        return RenderedContent(mail.subject, mail.text, mail.html)
    return render_content(mail.subject, mail.text, mail.html, variables)
