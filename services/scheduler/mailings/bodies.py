"""What is sent about mailings: the models of the JSON."""

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from services.scheduler.mailings.fields import (
    Attributes,
    Clock,
    ContactTags,
    Moment,
    Name,
    Rate,
    SomeContactTags,
    Source,
    Subject,
    Values,
    Zone,
)
from shared.events.requested import TAG_LIMIT, Tag, check_headers, point_at
from shared.events.wire import Address, MailboxField, MailboxList

_STRICT = ConfigDict(extra="forbid")
TEST_LIMIT = 20


def _nothing() -> Any:
    """Stands for what was not given, where null may not be."""


class MailingContent(BaseModel):
    """What every recipient gets. `subject`, `text` and `html` are templates over `address`, `name` and the attributes
    of a contact, or the variables of a list's row: `{{ name }}`, filters, `{% if %}`, `{% for %}`, `{% set %}`."""

    model_config = _STRICT

    from_: MailboxField | None = Field(
        default=None,
        alias="from",
        description="an allowed sender of the API key; absent: its only one",
        examples=["Shop <news@example.com>"],
    )
    reply_to: MailboxList = Field(default_factory=list)
    envelope_from: Address | None = Field(default=None, description="where bounces go; absent: `from`")
    subject: Subject = Field(examples=["Spring is here, {{ name|default('friend') }}"])
    text: Source | None = None
    html: Source | None = Field(default=None, examples=["<p>Hello {{ name }}</p>"])
    headers: Annotated[dict[str, str], AfterValidator(check_headers)] = Field(
        default_factory=dict, description="header fields as they stand, no templates"
    )
    tags: list[Tag] = Field(default_factory=list, max_length=TAG_LIMIT, description="of the mails, to find them by")

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if self.text is None and self.html is None:
            raise point_at("html", "one of html and text is needed")
        return self


class TagFilter(BaseModel):
    """Which tags a contact must have."""

    model_config = _STRICT

    any: SomeContactTags = Field(default_factory=list, description="at least one of these")
    all: ContactTags = Field(default_factory=list, description="all of these")
    none: ContactTags = Field(default_factory=list, description="none of these")


class MailingAudience(BaseModel):
    """Whom it goes to: contacts for whom all of it holds, `{}` means all of them; or an uploaded list."""

    model_config = _STRICT

    tags: TagFilter = Field(default_factory=TagFilter)
    attributes: Attributes = Field(
        default_factory=dict,
        description="the value a contact's attribute must have, or one of a list of values; null: it must have none",
        examples=[{"plan": "pro"}],
    )
    # Null is refused: whoever looked for a list and has none does not mean everybody.
    list: UUID = Field(default_factory=_nothing, description="`id` of a list (`POST /v1/lists`), in place of contacts")

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if self.list and (self.attributes or self.tags != TagFilter()):
            raise point_at("list", "a list is whole: leave out tags and attributes, or the list")
        return self


class DailyHours(BaseModel):
    """When of a day mail may leave, on the recipient's own clock; past midnight where `to` is before `from`."""

    model_config = _STRICT

    from_: Clock = Field(alias="from", examples=["09:00"])
    to: Clock = Field(examples=["18:00"], description="the first minute that is too late")
    timezone: Zone = Field(default="UTC", description="of those whose own is not known", examples=["Europe/Berlin"])

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if self.from_ == self.to:
            raise point_at("to", "must differ from `from`; leave `hours` out for the whole day")
        return self


class NewMailing(BaseModel):
    """A mailing to be made. Nothing leaves before it is started."""

    model_config = _STRICT

    name: Name = Field(description="to find it again by; recipients do not see it", examples=["Spring letter"])
    content: MailingContent
    audience: MailingAudience
    start_at: Moment | None = Field(default=None, description="not before; absent: as soon as it is started")
    finish_at: Moment | None = Field(default=None, description="nothing leaves from then on")
    hours: DailyHours | None = None
    rate: Rate | None = Field(default=None, description="mails a second at most; absent: as fast as it goes")
    unsubscribe: bool = Field(
        default=False, strict=True, description="with `List-Unsubscribe` and `List-Unsubscribe-Post` (RFC 8058)"
    )


class ContentChanges(MailingContent):
    """What is to change of the content; null takes a field back."""

    subject: Subject = Field(default_factory=_nothing)

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        return self


class MailingChanges(NewMailing):
    """What is to change of a mailing. What is left out stays, of `content` field by field; null takes back what a
    mailing need not have. `audience` and `hours` take the place of those before."""

    name: Name = Field(default_factory=_nothing)
    content: ContentChanges = Field(default_factory=_nothing)
    audience: MailingAudience = Field(default_factory=_nothing)
    unsubscribe: bool = Field(default_factory=_nothing, strict=True)


class MailingAdjustments(BaseModel):
    """What may change of a mailing that runs, or is paused."""

    model_config = _STRICT

    name: Name = Field(default_factory=_nothing)
    rate: Rate | None = None
    finish_at: Moment | None = None


class SampleRecipient(BaseModel):
    """A recipient who need not exist."""

    model_config = _STRICT

    address: Address = Field(examples=["ann@example.org"])
    name: str = Field(default="", max_length=500, examples=["Ann"])
    variables: Values = Field(default_factory=dict, description="attributes, or variables of a list's row")


class RecipientChoice(BaseModel):
    """For whom the templates are rendered: somebody of the audience by `address`, or a `recipient` who need not exist;
    neither: the first of the audience."""

    model_config = _STRICT

    address: Address | None = Field(default=None, description="of a contact, or of the mailing's list")
    recipient: SampleRecipient | None = None

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if self.address and self.recipient:
            raise point_at("recipient", "give one of address and recipient")
        return self


class TestRequest(RecipientChoice):
    """Who gets the test, and for whom it is rendered."""

    to: list[Address] = Field(
        min_length=1, max_length=TEST_LIMIT, description="each gets a mail of its own", examples=[["me@example.com"]]
    )


class RetryRequest(BaseModel):
    """How those that failed are tried again."""

    model_config = _STRICT

    finish_at: Moment | None = Field(
        default=None,
        description="nothing leaves from then on, as if it were changed by PATCH; left out: as the mailing says,"
        " null: there is no end",
    )
    unknown: bool = Field(
        default=False,
        strict=True,
        description="also those with the reason `unknown`: the relay may have that mail, so they may get it twice",
    )
