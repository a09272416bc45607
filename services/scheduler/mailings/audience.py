"""Whom a mailing goes to. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """The entries of a list; or without one the contacts whose tags and attributes are as it says. All of it holds.

    `attributes`: a contact has this value, or one of these where it is a list; None: the contact has no such attribute.
    """

    list: UUID | None = None
    any: tuple[str, ...] = ()
    all: tuple[str, ...] = ()
    none: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_everyone(self) -> bool:
        """Whether it means all contacts there are."""
        return not (self.list or self.any or self.all or self.none or self.attributes)

    def to_json(self) -> dict[str, Any]:
        """As it is kept, without the list."""
        named = {"any": self.any, "all": self.all, "none": self.none}
        tags = {name: list(given) for name, given in named.items() if given}
        return ({"tags": tags} if tags else {}) | ({"attributes": dict(self.attributes)} if self.attributes else {})

    @classmethod
    def from_json(cls, kept: Mapping[str, Any], list_id: UUID | None) -> Self:
        """From what `to_json` made."""
        tags: dict[str, tuple[str, ...]] = {name: tuple(given) for name, given in kept.get("tags", {}).items()}
        return cls(list=list_id, **tags, attributes=kept.get("attributes", {}))
