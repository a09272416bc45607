"""A contact, and which contacts are meant. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from services.scheduler.importing.columns import KNOWN

ATTRIBUTE_SEPARATOR = ":"


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact as it is kept. `id` is the recipient's; `tags` are sorted."""

    id: UUID
    address: str
    name: str
    timezone: str | None
    tags: list[str]
    attributes: dict[str, Any]
    created_at: datetime
    changed_at: datetime
    unsubscribed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ContactFilter:
    """Contacts that have all of these tags, and each attribute with one of its values."""

    tags: tuple[str, ...] = ()
    attributes: tuple[tuple[Mapping[str, Any], ...], ...] = ()
    """For each attribute the objects of which one has to be in the contact's."""


def read_condition(text: str) -> tuple[Mapping[str, Any], ...]:
    """What `plan:pro` means: the text, or where it is JSON of one value (`seats:5`, `vip:true`) that, too.

    Raises ValueError.
    """
    name, separator, value = text.partition(ATTRIBUTE_SEPARATOR)
    if not name or not separator or "\0" in text:
        raise ValueError("write name and value as `plan:pro`")
    if name in KNOWN:
        raise ValueError(f"{name} is a field of a contact, and no attribute")
    choices: list[Mapping[str, Any]] = [{name: value}]
    try:
        other = orjson.loads(value)
    except orjson.JSONDecodeError:
        return tuple(choices)
    if isinstance(other, bool | int | float):
        choices.append({name: other})
    return tuple(choices)
