"""One content for many recipients: `email.bulk_requested` (R2), and the mails it stands for."""

from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from shared.addresses import Mailbox, check_effort, check_name
from shared.events.identity import Namespace
from shared.events.requested import (
    DEFAULT_ACCOUNT,
    TAG_LIMIT,
    Account,
    Attachments,
    CallbackSpec,
    EmailRequested,
    HeaderText,
    Reference,
    Tag,
    TemplateRef,
    UnsubscribeUrl,
    Url,
    check_headers,
    check_metadata,
    check_variables,
    point_at,
    read_callback,
)
from shared.events.wire import Address, Instant, MailboxField, MailboxList, WireModel

BULK_LIMIT = 500
_FIELDS = set(EmailRequested.model_fields)


class BulkEntry(WireModel):
    """One recipient of a bulk event: a mail of its own. `name` is the recipient's, for the To header."""

    id: UUID | None = None
    to: MailboxField
    name: Annotated[HeaderText, AfterValidator(check_name)] | None = None
    variables: Annotated[dict[str, Any], AfterValidator(check_variables)] = Field(default_factory=dict)
    metadata: Annotated[dict[str, Any], AfterValidator(check_metadata)] = Field(default_factory=dict)
    retry_of: UUID | None = None
    unsubscribe_url: UnsubscribeUrl | None = None

    @property
    def mailbox(self) -> Mailbox:
        """Whom the mail is addressed to."""
        return Mailbox(self.to.address, self.name) if self.name else self.to


class BulkRequested(WireModel):
    """One content, as templates, for many recipients; data of `email.bulk_requested`. No cc, no bcc.

    With `plain` the content is no template: every mail has it as it stands, and `variables` count for nothing.

    It is read whole or not at all: with one entry that cannot be read, none of its mails is sent.
    """

    bulk_id: UUID | None = None
    from_: MailboxField = Field(alias="from")
    reply_to: MailboxList = Field(default_factory=list)
    envelope_from: Address | None = None
    subject: HeaderText
    text: str | None = None
    html: str | None = None
    headers: Annotated[dict[str, str], AfterValidator(check_headers)] = Field(default_factory=dict)
    attachments: Attachments = Field(default_factory=list)
    mails: list[BulkEntry] = Field(min_length=1, max_length=BULK_LIMIT)
    priority: Literal["normal", "bulk"] = "normal"
    send_at: Instant | None = None
    expires_at: Instant | None = None
    callback: Annotated[Url | CallbackSpec | None, BeforeValidator(read_callback)] = None
    tags: list[Tag] = Field(default_factory=list, max_length=TAG_LIMIT)
    mailing_id: Reference | None = None
    batch_id: Reference | None = None
    account: Account = DEFAULT_ACCOUNT
    api_key_id: Reference | None = None
    template: TemplateRef | None = None
    on_unknown: Literal["resend", "hold"] = "resend"
    test: bool = False
    plain: bool = False
    requested_at: Instant | None = None
    paced: bool = Field(default=False, description="the scheduler let it go, and waits for its results (R2)")

    @model_validator(mode="before")
    @classmethod
    def _bound_effort(cls, data: Any) -> Any:
        """Before any address is looked at: unusual ones take milliseconds each."""
        mails = data.get("mails") if isinstance(data, dict) else None
        if isinstance(mails, list):
            check_effort(_list_addresses(mails[:BULK_LIMIT]))
        return data

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if self.text is None and self.html is None:
            raise point_at("html", "one of html and text is needed")
        given = [entry.id for entry in self.mails if entry.id]
        if len(set(given)) != len(given):
            raise point_at("mails", "each id may be given once; every entry is a mail of its own")
        return self

    def to_json(self) -> bytes:
        """The event's value on the topic: what is not the default."""
        return self.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True).encode()

    def list_ids(self) -> list[UUID]:
        """The email ids of its mails, in their order."""
        assert self.bulk_id is not None, "read_bulk has given it one"
        entries = Namespace(self.bulk_id)
        return [entry.id or entries.name(str(index)) for index, entry in enumerate(self.mails)]

    def list_mails(self) -> list[EmailRequested]:
        """The mails this event stands for, in its order; they share whatever they have in common."""
        common = _list_defaults() | {
            "from_": self.from_,
            "reply_to": self.reply_to,
            "envelope_from": self.envelope_from,
            "subject": self.subject,
            "text": self.text,
            "html": self.html,
            "headers": self.headers,
            "attachments": self.attachments,
            "send_at": self.send_at,
            "expires_at": self.expires_at,
            "priority": self.priority,
            "callback": self.callback,
            "tags": self.tags,
            "mailing_id": self.mailing_id,
            "batch_id": self.batch_id,
            "account": self.account,
            "api_key_id": self.api_key_id,
            "template": self.template,
            "on_unknown": self.on_unknown,
            "test": self.test,
            "requested_at": self.requested_at,
            "paced": self.paced,
        }
        return [
            _make_mail(
                {
                    **common,
                    "id": email_id,
                    "to": [entry.mailbox],
                    "variables": None if self.plain else entry.variables,
                    "metadata": entry.metadata,
                    "retry_of": entry.retry_of,
                    "unsubscribe_url": entry.unsubscribe_url,
                }
            )
            for email_id, entry in zip(self.list_ids(), self.mails, strict=True)
        ]


@cache
def _list_defaults() -> dict[str, Any]:
    return dict(EmailRequested.model_construct(from_=Mailbox(""), to=[], subject="").__dict__)


def _make_mail(fields: dict[str, Any]) -> EmailRequested:
    """A mail of values that have been validated; pydantic's own way of copying takes five times as long."""
    mail = EmailRequested.__new__(EmailRequested)
    for name, value in (
        ("__dict__", fields),
        ("__pydantic_fields_set__", _FIELDS),
        ("__pydantic_extra__", None),
        ("__pydantic_private__", None),
    ):
        object.__setattr__(mail, name, value)
    return mail


def _list_addresses(mails: list[Any]) -> Iterable[str]:
    for each in mails:
        to = each.get("to") if isinstance(each, dict) else None
        if isinstance(to, str):
            yield to
