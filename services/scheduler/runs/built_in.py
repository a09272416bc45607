"""The jobs everybody has: a mail, and the end of old history."""

from collections.abc import Iterator, Mapping
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from services.scheduler.runs.job import JobContext, Tools
from shared.events import EmailFields, EmailRequested, Namespace
from shared.events.identity import OCCURRENCE_MAIL_NAMESPACE
from shared.events.requested import point_at
from shared.templates import TemplateError, render_content

_MAILS = Namespace(OCCURRENCE_MAIL_NAMESPACE)
_NEEDED = {("to", "cc", "bcc"): "at least one recipient is needed", ("html", "text"): "one of html and text is needed"}


class EmailArgs(EmailFields):
    """A mail, as `POST /v1/emails` takes it, without stored templates."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _tell_all_that_is_missing(cls, data: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        """At once: a mail as a whole is looked at only where each of its fields is right."""
        try:
            return read(data)
        except ValidationError as exc:
            errors, missing = exc.errors(include_url=False), _find_missing(data)
            if not missing or not all(error["loc"] for error in errors):
                raise
            told = [_tell(error["msg"], error["loc"], error.get("ctx")) for error in errors]
            raise ValidationError.from_exception_data(cls.__name__, [*told, *missing]) from None

    @model_validator(mode="after")
    def _render_once(self) -> Self:
        """To find a template's mistakes before the first run does."""
        if self.variables is not None:
            try:
                render_content(self.subject, self.text, self.html, self.variables)
            except TemplateError as exc:
                path = ("variables", *exc.variable) if exc.variable else (exc.field,)
                raise point_at("/".join(path), f"in {exc.field}: {exc.detail}") from None
        return self


def _find_missing(data: Any) -> list[InitErrorDetails]:
    given = data if isinstance(data, dict) else {}
    return [
        _tell(detail, names[:1]) for names, detail in _NEEDED.items() if all(given.get(name) is None for name in names)
    ]


def _tell(detail: str, location: tuple[int | str, ...], context: Mapping[str, Any] | None = None) -> InitErrorDetails:
    told = PydanticCustomError("field", "{told}", {**(context or {}), "told": detail})
    return InitErrorDetails(type=told, loc=location, input=None)


class EmailSentResult(BaseModel):
    """Where to look for what became of the mail: `GET /v1/emails/{email_id}`."""

    email_id: UUID


async def send_email(args: EmailArgs, context: JobContext, tools: Tools) -> EmailSentResult:
    """Publish a mail. Its id is derived from the run, so a run that is begun again does not send it again."""
    email_id = _MAILS.name(str(context.occurrence_id))
    known = {name: getattr(args, name) for name in args.model_fields_set}
    event = EmailRequested.model_construct(
        **{name: getattr(args, name) for name in EmailFields.model_fields},
        id=email_id,
        account=context.account,
        api_key_id=context.creator.key_id,
        test=context.creator.test,
        requested_at=context.scheduled_for,
        _fields_set={*known, "id", "account", "api_key_id", "test", "requested_at"},
    )
    await tools.publish_email(event)
    return EmailSentResult(email_id=email_id)


def list_senders(args: EmailArgs) -> Iterator[tuple[str, str]]:
    """The addresses a key must be allowed to send from, by field."""
    yield "from", args.from_.address
    if args.envelope_from:
        yield "envelope_from", args.envelope_from


class PurgeArgs(BaseModel):
    """Which runs are old."""

    model_config = ConfigDict(extra="forbid")

    older_than_days: float = Field(default=30, ge=0, le=36_500, description="since they ended")


class PurgeResult(BaseModel):
    """How many runs were deleted."""

    deleted: int


async def purge_history(args: PurgeArgs, context: JobContext, tools: Tools) -> PurgeResult:
    """Delete the account's runs that ended long ago, before MILENA_RESULT_RETENTION does.

    Asked for by a test key: those of tasks that test keys have made.
    """
    test_only = context.creator.test
    return PurgeResult(deleted=await tools.purge(context.account, args.older_than_days, test_only=test_only))
