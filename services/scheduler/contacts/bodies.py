"""What is sent about contacts: the models of the JSON."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from services.scheduler.contacts.contact import Contact
from services.scheduler.contacts.identity import identify_recipient
from services.scheduler.importing.columns import KNOWN
from services.scheduler.importing.recipients import (
    ATTRIBUTES_LIMIT,
    MOST_ATTRIBUTES,
    MOST_TAGS,
    NAME_LIMIT,
    TAG_LIMIT,
    Recipient,
    check_attributes,
    check_recipient,
    read_name,
    read_tags,
    read_timezone,
)

_STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True)


def _check_attributes(given: dict[str, Any]) -> dict[str, Any]:
    if given.keys() & KNOWN:
        raise ValueError(f"must not be named {', '.join(sorted(KNOWN))}: those are fields of their own")
    check_attributes(given)
    return given


ContactAddress = Annotated[str, Field(max_length=400, examples=["ann@example.org"]), AfterValidator(check_recipient)]
ContactName = Annotated[
    str,
    BeforeValidator(read_name),
    WithJsonSchema({"anyOf": [{"type": "string", "maxLength": NAME_LIMIT}, {"type": "null"}]}),
]
ContactZone = Annotated[
    str, BeforeValidator(read_timezone), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]})
]
_TAG_SCHEMA = {"type": "string", "maxLength": TAG_LIMIT, "pattern": "^[^;]*$"}
ContactTags = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda given: read_tags(given if given is None or isinstance(given, list) else [None])),
    WithJsonSchema({"anyOf": [{"type": "array", "maxItems": MOST_TAGS, "items": _TAG_SCHEMA}, {"type": "null"}]}),
]
ContactAttributes = Annotated[dict[str, Any], Field(max_length=MOST_ATTRIBUTES), AfterValidator(_check_attributes)]


class ContactChanges(BaseModel):
    """What is to be changed of a contact. What is not given stays."""

    model_config = _STRICT

    name: ContactName = Field(default="", description="null: none", examples=["Ann"])
    timezone: ContactZone = Field(default="", description="IANA name; null: none", examples=["Europe/Berlin"])
    tags: ContactTags = Field(
        default=(), description="all there are from now on; texts without `;`", examples=[["customer", "vip"]]
    )
    attributes: ContactAttributes = Field(
        default_factory=dict,
        description=f"laid over those there are; null takes one away. All together up to {MOST_ATTRIBUTES} and"
        f" {ATTRIBUTES_LIMIT // 1024} KiB of JSON",
        examples=[{"plan": "pro", "seats": 5}],
    )

    def apply_to(self, contact: Contact) -> Recipient:
        """What they say of this contact."""
        return self.describe(contact.id, contact.address)

    def describe(self, contact_id: Any, address: str) -> Recipient:
        """What they say of a recipient."""
        given = {name: getattr(self, name) for name in ("name", "timezone", "tags", "attributes")}
        said = {name: value for name, value in given.items() if name in self.model_fields_set}
        return Recipient(1, 1, contact_id, address, **said)


class NewContact(ContactChanges):
    """A contact, or what is to be changed of the one with this address."""

    address: ContactAddress

    def to_recipient(self, account: str) -> Recipient:
        """As a contact of this account."""
        return self.describe(identify_recipient(account, self.address), self.address)


class ErasureRequest(BaseModel):
    """Who is to be erased."""

    model_config = _STRICT

    address: ContactAddress


NEW_CONTACT = {
    "customer": {
        "summary": "A customer",
        "value": {
            "address": "ann@example.org",
            "name": "Ann",
            "timezone": "Europe/Berlin",
            "tags": ["customer", "vip"],
            "attributes": {"plan": "pro", "seats": 5},
        },
    }
}
CHANGES = {
    "plan": {
        "summary": "Another plan, and no seats any more",
        "value": {"attributes": {"plan": "free", "seats": None}},
    }
}
ERASURE = {"ann": {"summary": "Somebody who asked for it", "value": {"address": "ann@example.org"}}}
