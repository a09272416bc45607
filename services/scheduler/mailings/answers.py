"""What the API answers about mailings: the models of its JSON."""

from datetime import datetime
from typing import Any, Literal, cast
from uuid import UUID

from pydantic import BaseModel, Field

from services.scheduler.mailings.bodies import DailyHours
from services.scheduler.mailings.defining import to_fields
from services.scheduler.mailings.mailing import Mailing, MailingState
from services.scheduler.mailings.standing.answers import MailingPace, MessageCounts
from shared.apidocs import FieldError

MAILING_ID = "01a2b3c4-d5e6-7f80-9a1b-2c3d4e5f6071"


class ShownContent(BaseModel):
    """The content as it is kept: what was left out is left out."""

    from_: str = Field(alias="from")
    reply_to: list[str] | None = None
    envelope_from: str | None = None
    subject: str
    text: str | None = None
    html: str | None = None
    headers: dict[str, str] | None = None
    tags: list[str] | None = None


class ShownTags(BaseModel):
    """The tags a contact must have, as far as it is said."""

    any: list[str] | None = None
    all: list[str] | None = None
    none: list[str] | None = None


class ShownAudience(BaseModel):
    """Whom it goes to: `{}` is every contact."""

    tags: ShownTags | None = None
    attributes: dict[str, Any] | None = None
    list: UUID | None = None


class MailingView(BaseModel):
    """A mailing. Its content is in the answers about one mailing, and left out in lists."""

    id: UUID = Field(examples=[MAILING_ID])
    name: str
    state: MailingState
    content: ShownContent | None = None
    audience: ShownAudience
    start_at: datetime | None = None
    finish_at: datetime | None = None
    hours: DailyHours | None = None
    rate: int | None = None
    unsubscribe: bool
    recipients: int = Field(description="how many have been taken in so far", examples=[99_998])
    counts: MessageCounts | None = Field(default=None, description="how they stand; left out in lists")
    progress: MailingPace | None = Field(default=None, description="once it was started; left out in lists")
    created_at: datetime
    changed_at: datetime
    started_at: datetime | None = None
    frozen_at: datetime | None = Field(default=None, description="when all were taken in; who comes later is not in it")
    finished_at: datetime | None = Field(default=None, description="when every mail had its end")
    recipients_deleted_at: datetime | None = Field(
        default=None, description="who got it is not kept any more, and nobody can be tried again; `counts` stay"
    )
    test: bool | None = Field(default=None, description="true: simulated, nothing is transmitted")


class MailingPage(BaseModel):
    """Mailings, newest first."""

    data: list[MailingView]
    next: str | None = Field(default=None, description="there are more: `after` of the next request")


class MailingPreview(BaseModel):
    """What a recipient would read."""

    address: str = Field(description="whose it is", examples=["ann@example.org"])
    name: str = Field(examples=["Ann"])
    variables: dict[str, Any] = Field(description="what the templates were rendered with, beside address and name")
    subject: str | None = Field(description="null where it cannot be rendered")
    text: str | None
    html: str | None
    errors: list[FieldError] = Field(
        description="why a field cannot be rendered; the mailing's mail would fail with it"
    )


class TestMail(BaseModel):
    """One test mail."""

    address: str = Field(examples=["me@example.com"])
    id: UUID = Field(description="of the mail; `GET /v1/emails/{id}` has what becomes of it")


class TestAccepted(BaseModel):
    """Test mails that are about to be sent, beside the mailing: they are in none of its counts."""

    data: list[TestMail]


class MissingVariable(BaseModel):
    """A variable that the templates need and some recipients lack: their mail fails with `template_error`."""

    variable: str = Field(examples=["plan"])
    recipients: int = Field(description="how many lack it", examples=[17])


class TemplateFault(BaseModel):
    """A way in which rendering fails for recipients that were tried."""

    field: Literal["subject", "text", "html"]
    detail: str = Field(examples=["variable `plan` is not given (line 3)"])
    recipients: int = Field(description="of those tried", examples=[3])
    example: str = Field(description="address of one of them", examples=["bob@example.net"])


class CheckWarning(BaseModel):
    """What need not be wrong."""

    code: str = Field(examples=["no-unsubscribe"])
    detail: str


class MailingCheck(BaseModel):
    """What would happen if it were started now."""

    ready: bool = Field(description="whether it could be started: there are no `problems`")
    recipients: int = Field(description="in the audience", examples=[100_000])
    unsubscribed: int = Field(description="of these, who get none", examples=[120])
    mails: int = Field(description="what is left", examples=[99_880])
    tried: int = Field(description="recipients whose mail was rendered", examples=[500])
    missing: list[MissingVariable] = Field(description="counted over the whole audience")
    template_errors: list[TemplateFault] = Field(description="found by rendering for those that were tried")
    estimated_duration_s: float | None = Field(description="at the mailing's rate; null where it has none")
    problems: list[FieldError] = Field(description="why it cannot be started; pointers are into the mailing")
    warnings: list[CheckWarning]


def show_mailing(mailing: Mailing, *, with_content: bool = True) -> MailingView:
    """A mailing as it is told."""
    fields = to_fields(mailing.definition)
    content = cast(dict[str, Any], fields.pop("content"))
    return MailingView(
        **fields,
        content=ShownContent.model_validate(content) if with_content else None,
        id=mailing.id,
        state=mailing.state,
        recipients=mailing.recipients,
        created_at=mailing.created_at,
        changed_at=mailing.changed_at,
        started_at=mailing.started_at,
        frozen_at=mailing.frozen_at,
        finished_at=mailing.finished_at,
        recipients_deleted_at=mailing.recipients_deleted_at,
        test=mailing.test or None,
    )
