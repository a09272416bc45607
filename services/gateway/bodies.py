"""Request bodies: their models, and reading them from JSON or a form.

Errors leave as problems: 400 for what cannot be parsed, 422 with a pointer to each field otherwise.
"""

from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, field_validator
from starlette.requests import ClientDisconnect

from shared.addresses import RECIPIENT_LIMIT, Mailbox
from shared.bodies import cut_off, parse_object, point_out, read_body
from shared.composing.forms import NewEmail, refuse_names
from shared.events import WireModel
from shared.events.requested import HeaderText, Url
from shared.events.wire import MailboxField, MailboxList
from shared.problems import UNKNOWN_FIELD, Problem, invalid_content

_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_FIELD_LIMIT = 100
BATCH_LIMIT = 1000  # mails


def _empty_is_none(value: Any) -> Any:
    return None if value == "" else value


class SimpleEmail(WireModel):
    """The simple form of a mail."""

    model_config = ConfigDict(extra="forbid")

    from_: MailboxField = Field(alias="from", description="an allowed sender of the API key")
    to: MailboxList = Field(description="RFC 5322 address list or array; all recipients see each other")
    subject: HeaderText
    text_content: str | None = Field(default=None, description="absent: derived from the HTML")
    html_content: Annotated[str, StringConstraints(min_length=1)]
    token: str | None = Field(default=None, description="the API key, unless the Authorization header has it")
    callback: Annotated[
        Url | None, BeforeValidator(_empty_is_none, json_schema_input_type=Url | Literal[""] | None)
    ] = Field(default=None, description="gets one signed POST once the mail is complete")

    @field_validator("to")
    @classmethod
    def _count_recipients(cls, to: list[Mailbox]) -> list[Mailbox]:
        if not 1 <= len(to) <= RECIPIENT_LIMIT:
            raise ValueError(f"give 1 to {RECIPIENT_LIMIT} recipients")
        return to


class NewBatch(WireModel):
    """Many mails, each as `POST /v1/emails` takes it."""

    model_config = ConfigDict(extra="forbid")

    emails: list[NewEmail] = Field(min_length=1, max_length=BATCH_LIMIT)
    all_or_nothing: bool = Field(default=False, description="true: where one mail is refused, none is sent")


class Batch(NamedTuple):
    """Its mails are not looked at yet."""

    emails: list[Any]
    all_or_nothing: bool


async def read_fields(request: Request) -> dict[str, Any]:
    """The body's fields, from JSON or either kind of form. Raises Problem 400 or 422."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == _MULTIPART:
        return await _read_multipart(request)
    body = await read_body(request)
    # curl -d says "form" whatever it sends.
    if media == _FORM and not body.lstrip().startswith(b"{"):
        return _collect(_parse_form(body))
    return parse_object(body, free=())  # each of its fields is judged


def read_simple(fields: dict[str, Any]) -> SimpleEmail:
    """Validate the simple form. Raises Problem 422."""
    try:
        return SimpleEmail.model_validate(fields, by_name=False)
    except ValidationError as exc:
        raise invalid_content(point_out(exc)) from None


def read_batch(fields: dict[str, Any]) -> Batch:
    """The batch's own fields; each mail is for `read_full`. Raises Problem 422."""
    refuse_names(fields.keys() - NewBatch.model_fields.keys(), "", UNKNOWN_FIELD)
    emails, all_or_nothing = fields.get("emails"), fields.get("all_or_nothing", False)
    if not isinstance(emails, list) or not 1 <= len(emails) <= BATCH_LIMIT:
        raise invalid_content([{"detail": f"give an array of 1 to {BATCH_LIMIT} mails", "pointer": "/emails"}])
    if not isinstance(all_or_nothing, bool):
        raise invalid_content([{"detail": "must be true or false", "pointer": "/all_or_nothing"}])
    return Batch(emails, all_or_nothing)


def _parse_form(body: bytes) -> list[tuple[str, Any]]:
    try:
        return list(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELD_LIMIT, errors="strict"))
    except ValueError:
        detail = f"The body is not a form of at most {_FIELD_LIMIT} fields in UTF-8."
        raise Problem(400, "malformed-form", detail) from None


async def _read_multipart(request: Request) -> dict[str, Any]:
    # Parts are bounded by the limit on the whole body.
    try:
        async with request.form(max_files=0, max_fields=_FIELD_LIMIT, max_part_size=2**62) as form:
            return _collect(list(form.multi_items()))
    except ClientDisconnect:
        raise cut_off() from None


def _collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`to` may be given several times; anything else twice is a mistake."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name == "to" and fields.get("to"):
            fields["to"] += f", {value}"
        elif name in fields:
            raise invalid_content([{"detail": "is given twice", "pointer": f"/{name}"}])
        else:
            fields[name] = value
    return fields
