"""The short way for mails that differ in recipient, variables and metadata only, as those of a letter do. Pure.

What they share has been judged with the first of them; the rest costs a third of judging a mail. Whatever is not as
plain as that goes the long way, and comes to the same there (tests/unit/test_batches.py).
"""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Self
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from services.scheduler.batches.filling import Certain
from services.scheduler.pacing.rows import BulkRow, write_own
from shared.addresses import Mailbox, parse_mailbox
from shared.bodies import point_out
from shared.composing.composer import point_at_error
from shared.events import EmailRequested, WireModel
from shared.events.requested import check_metadata, check_variables
from shared.events.wire import MailboxList
from shared.problems import invalid_content
from shared.templates import TemplateError, render_content

_OWN = ("to", "variables", "metadata")


class _OwnModel(WireModel):
    model_config = ConfigDict(frozen=False)

    to: MailboxList
    variables: Annotated[dict[str, Any] | None, AfterValidator(check_variables)] = None
    metadata: Annotated[dict[str, Any], AfterValidator(check_metadata)] = Field(default_factory=dict)


class _Own(NamedTuple):
    to: list[Mailbox]
    variables: dict[str, Any] | None
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SharedContent:
    """What a mail that was accepted shares with those like it: as it was written, as a mail, as a row."""

    fields: dict[str, Any]
    mail: EmailRequested
    row: BulkRow
    certain: Certain | None

    @classmethod
    def of(cls, fields: dict[str, Any], mail: EmailRequested, row: BulkRow) -> Self | None:
        """None where it has nothing to share: several recipients, or images that each rendered text may name."""
        if row.content is None or _may_show_images(mail.html):
            return None
        certain = Certain.of(mail.subject, mail.text, mail.html)
        return cls({name: value for name, value in fields.items() if name not in _OWN}, mail, row, certain)

    def keep(self, fields: dict[str, Any], number: int, email_id: UUID, event_limit: int) -> BulkRow | None:
        """The row of another mail, None where it is not like this one. Raises Problem 422 for what is wrong with it."""
        if "to" not in fields or not self._is_like(fields):
            return None
        try:
            own = _read_own(fields)
            is_template = own.variables is not None
            if len(own.to) != 1 or is_template != self._is_template:
                return None
            if is_template and not self._renders(own.variables or {}):
                return None
        except ValidationError as exc:
            if isinstance(fields["to"], list) and len(fields["to"]) > 1:
                return None
            raise invalid_content(point_out(exc)) from None
        except TemplateError as exc:
            raise invalid_content([point_at_error(exc)]) from None
        written = write_own(own.to[0], own.variables, own.metadata, None, self.mail.unsubscribe_url)
        row = self.row._replace(id=email_id, number=number, own=written)
        return row if row.size <= event_limit else None

    def _is_like(self, fields: dict[str, Any]) -> bool:
        others = fields.copy()
        for name in _OWN:
            others.pop(name, None)
        return others == self.fields

    @property
    def _is_template(self) -> bool:
        return self.mail.variables is not None

    def _renders(self, variables: dict[str, Any]) -> bool:
        if self.certain and self.certain.allows(variables):
            return True
        rendered = render_content(self.mail.subject, self.mail.text, self.mail.html, variables)
        return not _may_show_images(rendered.html)


def _read_own(fields: dict[str, Any]) -> _Own:
    """Raises ValidationError. One address and objects, as most have them, need no model to be read."""
    to, variables, metadata = fields["to"], fields.get("variables"), fields.get("metadata", {})
    is_plain = type(to) is list and len(to) == 1 and type(to[0]) is str
    if is_plain and (variables is None or type(variables) is dict) and type(metadata) is dict:
        try:
            if variables is not None:
                check_variables(variables)
            return _Own([parse_mailbox(to[0])], variables, check_metadata(metadata))
        except ValueError:
            pass  # the model says what is wrong, and where
    own = _OwnModel.model_validate({name: fields[name] for name in _OWN if name in fields})
    return _Own(own.to, own.variables, own.metadata)


def _may_show_images(html: str | None) -> bool:
    return html is not None and ("cid:" in html or "CID:" in html)
