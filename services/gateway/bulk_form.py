"""One content for many recipients, as callers write it, and what it comes to for each of them. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import orjson
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError

from services.gateway.templates import StoredTemplate, complain
from shared.access import ApiKey
from shared.addresses import Mailbox, check_effort, check_name
from shared.bodies import point_out
from shared.composing.attachments import AttachmentRules, find_missing_images
from shared.composing.composer import (
    Identity,
    TooLarge,
    UnacceptableFields,
    check_expiry,
    check_senders,
    complete,
    point_at_error,
)
from shared.composing.forms import TemplateChoice, read_full, refuse_names
from shared.events import EmailRequested, Namespace, WireModel, derive_batch_entry_id
from shared.events.bulk import BULK_LIMIT
from shared.events.requested import (
    TAG_LIMIT,
    Attachments,
    CallbackSpec,
    HeaderText,
    Tag,
    Url,
    check_headers,
    check_metadata,
    check_variables,
    read_callback,
)
from shared.events.wire import Address, Instant, MailboxField, MailboxList
from shared.problems import UNKNOWN_FIELD, invalid_content
from shared.templates import TemplateError, check_syntax, render_content

RECIPIENTS_LIMIT = 1000
_ERRORS = 20
_RENDERED_FOR_ALL = 100_000  # characters of content; a larger one is tried once for each set of variables
_NOBODY = "recipient@example.org"  # stands for whoever is meant where a mail needs somebody
_NOT_SHARED = {"id", "to", "cc", "bcc", "variables", "metadata"}
_FRAME = 100  # bytes around the mails of an event


class NewRecipient(WireModel):
    """Who gets the content, and what is filled in for him."""

    model_config = ConfigDict(extra="forbid")

    to: MailboxField
    name: Annotated[HeaderText, AfterValidator(check_name)] | None = Field(
        default=None, description="for the To header, and `{{ name }}`"
    )
    variables: Annotated[dict[str, Any], AfterValidator(check_variables)] = Field(default_factory=dict)
    metadata: Annotated[dict[str, Any], AfterValidator(check_metadata)] = Field(default_factory=dict)

    @property
    def mailbox(self) -> Mailbox:
        """Whom the mail is addressed to."""
        return Mailbox(self.to.address, self.name) if self.name else self.to


class NewBulk(WireModel):
    """One content, as templates over each recipient's `name`, `address` and variables."""

    model_config = ConfigDict(extra="forbid")

    from_: MailboxField | None = Field(default=None, alias="from", description="absent: the key's only sender")
    reply_to: MailboxList = Field(default_factory=list)
    envelope_from: Address | None = None
    subject: HeaderText | None = Field(default=None, description="needed, unless there is a `template`")
    text: str | None = None
    html: str | None = None
    template: TemplateChoice | None = Field(default=None, description="a stored template, in place of the three")
    headers: Annotated[dict[str, str], AfterValidator(check_headers)] = Field(default_factory=dict)
    attachments: Attachments = Field(default_factory=list)
    recipients: list[NewRecipient] = Field(min_length=1, max_length=RECIPIENTS_LIMIT)
    send_at: Instant | None = None
    expires_at: Instant | None = None
    priority: Literal["normal", "bulk"] = Field(default="normal", description="bulk: behind all that is not, in turn")
    callback: Annotated[Url | CallbackSpec | None, BeforeValidator(read_callback)] = None
    tags: list[Tag] = Field(default_factory=list, max_length=TAG_LIMIT)
    on_unknown: Literal["resend", "hold"] = "resend"


_FIELDS = {field.alias or name for name, field in NewBulk.model_fields.items()}


class Entry(NamedTuple):
    """One mail of a bulk event: its id, and its JSON."""

    id: UUID
    written: bytes


class Part(NamedTuple):
    """One bulk event: its id, its value, and the ids of its mails."""

    bulk_id: UUID
    value: bytes
    ids: list[str]


@dataclass(frozen=True, slots=True)
class Bulk:
    """A content, and who gets it. `used`: the names its templates use."""

    content: EmailRequested
    recipients: list[NewRecipient]
    template: StoredTemplate | None
    used: frozenset[str]

    @property
    def is_large(self) -> bool:
        """Whether rendering it for everybody would hold others up."""
        mail = self.content
        return len(mail.subject) + len(mail.text or "") + len(mail.html or "") > _RENDERED_FOR_ALL


def check_names(fields: Mapping[str, Any]) -> None:
    """Raises Problem 422 for what is no field of NewBulk."""
    refuse_names(fields.keys() - _FIELDS, "", UNKNOWN_FIELD)


def read_bulk_form(fields: Mapping[str, Any], template: StoredTemplate | None, default_sender: str | None) -> Bulk:
    """Validate the form; `fields` have the template's content by now. Raises Problem 422."""
    recipients = _read_recipients(fields.get("recipients"))
    shared = {name: value for name, value in fields.items() if name != "recipients"}
    content = read_full({**shared, "to": [_NOBODY], "variables": {}}, default_sender)
    used: set[str] = set()
    for field in ("subject", "text", "html"):
        source = getattr(content, field)
        try:
            used |= check_syntax(field, source) if source else set()
        except TemplateError as exc:
            raise invalid_content([point_at_error(exc)]) from None
    return Bulk(content, recipients, template, frozenset(used))


def compose_bulk(bulk: Bulk, key: ApiKey, identity: Identity, rules: AttachmentRules) -> EmailRequested:
    """The content, as the event has it. Raises SenderNotAllowed, UnacceptableFields."""
    mail = bulk.content
    check_senders(key, mail)
    check_expiry(mail, identity.requested_at)
    if faults := [*rules.find_faults(mail.attachments), *find_missing_images(mail.html, mail.attachments)]:
        raise UnacceptableFields(faults)
    return complete(mail, key, identity._replace(batch_id=str(identity.id)))


class Filling:
    """What the content comes to for each recipient: tried once now, to find mistakes."""

    def __init__(self, bulk: Bulk, batch_id: UUID) -> None:
        self._bulk = bulk
        self._batch_id = batch_id
        self._tried: set[frozenset[str]] = set()
        self.errors: list[dict[str, str]] = []

    @property
    def is_hopeless(self) -> bool:
        """There are as many errors as are told."""
        return len(self.errors) >= _ERRORS

    def fill(self, index: int) -> Entry:
        """The mail of recipient `index`; what is wrong with it is among `errors`."""
        recipient = self._bulk.recipients[index]
        variables = self._complete(recipient, f"/recipients/{index}")
        self._try(variables, f"/recipients/{index}")
        email_id = derive_batch_entry_id(self._batch_id, index)
        told: dict[str, Any] = {"id": email_id, "to": str(recipient.mailbox), "variables": variables}
        if recipient.metadata:
            told["metadata"] = recipient.metadata
        return Entry(email_id, orjson.dumps(told))

    def _complete(self, recipient: NewRecipient, pointer: str) -> dict[str, Any]:
        box = recipient.mailbox
        own = {"name": box.name, "address": box.address}
        known = {name: value for name, value in own.items() if value and name in self._bulk.used}
        given = known | recipient.variables
        template = self._bulk.template
        if template is None:
            return given
        for name in template.content.find_missing(given):
            fault = complain(template, name)
            self.errors.append({**fault, "pointer": pointer + fault["pointer"]})
        return template.content.fill_in(given)

    def _try(self, variables: dict[str, Any], pointer: str) -> None:
        if self._bulk.is_large:
            names = frozenset(variables)
            if names in self._tried:
                return
            self._tried.add(names)
        mail = self._bulk.content
        try:
            render_content(mail.subject, mail.text, mail.html, variables)
        except TemplateError as exc:
            fault = point_at_error(exc)
            place = fault["pointer"] if exc.variable else ""
            known = any(error["pointer"] == pointer + place for error in self.errors)
            if not known:
                self.errors.append({"detail": f"{fault['detail']}", "pointer": pointer + place})


def divide(content: EmailRequested, entries: Sequence[Entry], *, event_limit: int, total_limit: int) -> list[Part]:
    """The bulk events, each within `event_limit` bytes. Raises TooLarge, also where they exceed `total_limit` together.

    The same content and entries are divided in the same way: asked for again, they are the same events.
    """
    assert content.batch_id is not None
    names = Namespace(UUID(content.batch_id))
    told = content.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True, exclude=_NOT_SHARED)
    head = told.encode().removesuffix(b"}")
    parts: list[Part] = []
    total = 0
    for number, some in enumerate(_group(entries, event_limit - len(head) - _FRAME, len(head), event_limit)):
        bulk_id = names.name(f"bulk {number}")
        mails = b",".join([entry.written for entry in some])
        value = b'%b,"bulk_id":"%b","mails":[%b]}' % (head, str(bulk_id).encode(), mails)
        total += len(value)
        if total > total_limit:
            raise TooLarge(total, total_limit)
        parts.append(Part(bulk_id, value, [str(entry.id) for entry in some]))
    return parts


def _group(entries: Iterable[Entry], room: int, head: int, event_limit: int) -> Iterator[list[Entry]]:
    some: list[Entry] = []
    size = 0
    for entry in entries:
        own = len(entry.written) + 1
        if own > room:
            raise TooLarge(head + own + _FRAME, event_limit)
        if some and (len(some) == BULK_LIMIT or size + own > room):
            yield some
            some, size = [], 0
        some.append(entry)
        size += own
    yield some


def _read_recipients(value: Any) -> list[NewRecipient]:
    """Raises Problem 422 with a pointer to each mistake, up to a number."""
    if not isinstance(value, list) or not 1 <= len(value) <= RECIPIENTS_LIMIT:
        detail = f"give an array of 1 to {RECIPIENTS_LIMIT} recipients"
        raise invalid_content([{"detail": detail, "pointer": "/recipients"}])
    try:
        check_effort(each["to"] for each in value if isinstance(each, dict) and isinstance(each.get("to"), str))
    except ValueError as exc:
        raise invalid_content([{"detail": str(exc), "pointer": "/recipients"}]) from None
    found: list[NewRecipient] = []
    errors: list[dict[str, str]] = []
    for index, each in enumerate(value):
        try:
            found.append(NewRecipient.model_validate(each, by_name=False))
        except ValidationError as exc:
            errors += [{**error, "pointer": f"/recipients/{index}{error['pointer']}"} for error in point_out(exc)]
            if len(errors) >= _ERRORS:
                break
    if errors:
        raise invalid_content(errors[:_ERRORS])
    return found
