"""What a row says of a recipient, judged. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID


class Recipient(NamedTuple):
    """A recipient of an account. `id` is the recipient's (contacts/identity.py).

    `name`, `timezone`, `tags`, `attributes` are None where nothing was said of them; a `timezone` of `""` says that
    there is none. An attribute that is None is to be removed.
    """

    number: int
    line: int
    id: UUID
    address: str
    name: str | None = None
    timezone: str | None = None
    tags: tuple[str, ...] | None = None
    attributes: Mapping[str, Any] | None = None
