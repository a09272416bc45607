"""The full form of a mail, as its callers write it, and reading it.

Errors leave as problems: 422 with a pointer to each field.
"""

from collections.abc import Set
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared.bodies import point_out
from shared.events import CallbackSpec, EmailFields, EmailRequested
from shared.events.requested import HeaderText, TemplateRef
from shared.events.wire import MailboxField
from shared.problems import UNKNOWN_FIELD, invalid_content

# R10: over HTTP these are the gateway's to say.
_OWN_FIELDS = frozenset(
    {"id", "account", "api_key_id", "requested_at", "test", "retry_of", "mailing_id", "batch_id", "template", "paced"}
)

FREE_FIELDS = ("variables", "metadata")
"""What they hold is the caller's own."""

TemplateName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
VersionNumber = Annotated[int, Field(ge=1, lt=2**31)]


class TemplateChoice(BaseModel):
    """Which stored template a mail's content is taken from."""

    model_config = ConfigDict(extra="forbid")

    name: TemplateName
    version: VersionNumber | None = Field(default=None, description="absent: the latest")


class NewEmail(EmailFields):
    """A mail with everything Milena knows of."""

    model_config = ConfigDict(extra="forbid")

    from_: MailboxField | None = Field(  # type: ignore[assignment]
        default=None, alias="from", description="an allowed sender of the API key; absent: its only one"
    )
    subject: HeaderText | None = Field(default=None, description="needed, unless there is a `template`")  # type: ignore[assignment]
    template: TemplateChoice | None = Field(
        default=None, description="a stored template, in place of subject, text and html; `variables` fill it in"
    )


def read_full(fields: dict[str, Any], default_sender: str | None) -> EmailRequested:
    """Validate the full form; without `from` the mail is from `default_sender`. Raises Problem 422.

    What is ours to say of the mail (id, account …) is still missing.
    """
    if fields.get("from") is None:
        if default_sender is None:
            detail = "is needed: the API key may send from more than one address"
            raise invalid_content([{"detail": detail, "pointer": "/from"}])
        fields = {**fields, "from": default_sender}
    own = _OWN_FIELDS & fields.keys()
    if own and isinstance(fields.get("template"), TemplateRef):  # resolved from a stored template; JSON has none
        own -= {"template"}
    refuse_names(own, "", "is set by Milena; leave it out")
    callback = fields.get("callback")
    if isinstance(callback, dict):  # validated apart from the mail, where `extra` does not reach
        refuse_names(callback.keys() - CallbackSpec.model_fields.keys(), "/callback", UNKNOWN_FIELD)
    try:
        # Unknown fields are refused at every depth; the models themselves ignore them, as readers of events must.
        return EmailRequested.model_validate(fields, extra="forbid", by_name=False)
    except ValidationError as exc:
        raise invalid_content(point_out(exc)) from None


def refuse_names(names: Set[str], under: str, detail: str) -> None:
    """Raises Problem 422 where there is any; `under` is the pointer of what holds them."""
    if names:
        raise invalid_content([{"detail": detail, "pointer": f"{under}/{name}"} for name in sorted(names)])
