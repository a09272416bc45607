"""What may be said in the query of routes about contacts."""

from collections.abc import Iterable
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from services.scheduler.contacts.bodies import ContactAddress
from services.scheduler.contacts.contact import ContactFilter, read_condition
from shared.access import ApiScope
from shared.events.requested import refuse_line_breaks
from shared.problems import invalid_content

PATH = "/v1/contacts"
SCOPE = ApiScope.MAILINGS_ADMIN
TAG: Any = ["Contacts"]
AFTER_POINTER = "/query/after"
ContactId = Annotated[UUID, Path(description="the contact's id")]
_Text = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    AfterValidator(refuse_line_breaks),
    Field(json_schema_extra={"pattern": r"^[^\r\n\x00]+$"}),
]


class PageQuery(BaseModel):
    """Which page."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=200, description="of a page")
    after: str | None = Field(default=None, max_length=1000, description="`next` of the page before")


class FilterQuery(BaseModel):
    """Which contacts."""

    model_config = ConfigDict(extra="forbid")

    tag: list[_Text] = Field(
        default_factory=list, max_length=20, description="has this tag; given again: that one, too"
    )
    attribute: list[_Text] = Field(
        default_factory=list,
        max_length=20,
        description="has this attribute, as `plan:pro`; given again: that one, too",
        examples=[["plan:pro"]],
    )

    def to_filter(self) -> ContactFilter:
        """What it means. Raises Problem 422."""
        return ContactFilter(tuple(self.tag), tuple(_read_conditions(self.attribute)))


class ContactQuery(FilterQuery):
    """Which page of which contacts."""

    address: ContactAddress | None = Field(default=None, description="the one with this address; case does not count")
    limit: int = Field(default=50, ge=1, le=1000, description="of a page")
    after: str | None = Field(default=None, max_length=1000, description="`next` of the page before")


def _read_conditions(given: Iterable[str]) -> Any:
    for place, text in enumerate(given):
        try:
            yield read_condition(text)
        except ValueError as exc:
            raise invalid_content([{"detail": str(exc), "pointer": f"/query/attribute/{place}"}]) from None
