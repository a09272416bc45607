"""What a row says of a recipient, judged. Pure."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from services.scheduler.contacts.identity import identify_recipient
from services.scheduler.importing.columns import KNOWN
from services.scheduler.importing.rows import BadRow, Row
from services.scheduler.recurrence.zones import is_zone
from shared.addresses import InvalidAddress, check_address, check_name, is_unusual
from shared.events.requested import check_variables

NAME_LIMIT, TAG_LIMIT, ATTRIBUTE_NAME_LIMIT = 200, 100, 100  # characters
MOST_TAGS, MOST_ATTRIBUTES = 50, 200
ATTRIBUTES_LIMIT = 16 * 1024
"""Bytes of JSON: attributes go into every mail that is written to the recipient."""
TAG_SEPARATOR = ";"
_NUL = b"\\u0000"


class InvalidField(ValueError):
    """A field that cannot be; the message says why, and does not repeat it."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


class Recipient(NamedTuple):
    """A recipient of an account. `id` is the recipient's (contacts/identity.py).

    `name`, `timezone`, `tags`, `attributes` are None where nothing was said of them; a `timezone` of `""` says that
    there is none. An attribute that is None is to be removed. Tags are sorted, each once.
    """

    number: int
    line: int
    id: UUID
    address: str
    name: str | None = None
    timezone: str | None = None
    tags: tuple[str, ...] | None = None
    attributes: Mapping[str, Any] | None = None


def judge_row(account: str, row: Row) -> Recipient | BadRow:
    """The recipient of this account that the row speaks of, or what is wrong with it."""
    number, line, fields = row
    try:
        return read_recipient(account, fields, number, line)
    except InvalidField as exc:
        return BadRow(number, line, exc.field, str(exc))


def read_recipient(account: str, fields: Mapping[str, Any], number: int = 1, line: int = 1) -> Recipient:
    """The recipient that these fields speak of; what is beside KNOWN are attributes. Raises InvalidField."""
    address = _read_address(fields.get("address"))
    attributes = {name: value for name, value in fields.items() if name not in KNOWN}
    return Recipient(
        number,
        line,
        identify_recipient(account, address),
        address,
        read_name(fields["name"]) if "name" in fields else None,
        read_timezone(fields["timezone"]) if "timezone" in fields else None,
        read_tags(fields["tags"]) if "tags" in fields else None,
        check_attributes(attributes) if attributes else None,
    )


def _read_address(given: Any) -> str:
    if not given:
        raise InvalidField("address", "is missing")
    if not isinstance(given, str):
        raise InvalidField("address", "must be a text")
    try:
        return check_recipient(given)
    except InvalidAddress as exc:
        raise InvalidField("address", str(exc)) from None


def check_recipient(given: str) -> str:
    """The address of a recipient. Raises InvalidAddress, also for `"<"@x.org`, of which an event takes only a few."""
    address = check_address(given.strip())
    if is_unusual(f"<{address}>"):
        raise InvalidAddress("a quoted part before the @ must not contain < and >")
    return address


def read_name(given: Any) -> str:
    """A name; null is none. Raises InvalidField."""
    name = "" if given is None else given
    if not isinstance(name, str) or len(name) > NAME_LIMIT:
        raise InvalidField("name", f"must be a text of at most {NAME_LIMIT} characters")
    try:
        return check_name(name) if name else name
    except InvalidAddress as exc:
        raise InvalidField("name", str(exc)) from None


def read_timezone(given: Any) -> str:
    """A zone, or `""` for none. Raises InvalidField."""
    if given is None or given == "":
        return ""
    zone = given.strip() if isinstance(given, str) else given
    if zone == "" or is_zone(zone):
        return str(zone)
    raise InvalidField("timezone", "must be an IANA time zone such as Europe/Berlin")


def read_tags(given: Any) -> tuple[str, ...]:
    """Tags out of an array, or of a text in which they are separated. Raises InvalidField."""
    if not given:
        return ()
    if isinstance(given, str):
        return _split_tags(given)
    if not isinstance(given, list) or not all(isinstance(tag, str) for tag in given):
        raise InvalidField("tags", "must be an array of texts")
    return _sort_tags(given)


@lru_cache(maxsize=1000)  # thousands of rows have the same
def _split_tags(text: str) -> tuple[str, ...]:
    return _sort_tags(text.split(TAG_SEPARATOR))


def _sort_tags(given: Iterable[str]) -> tuple[str, ...]:
    tags = {tag.strip() for tag in given} - {""}
    if len(tags) > MOST_TAGS:
        raise InvalidField("tags", f"may be at most {MOST_TAGS}")
    for tag in tags:
        if len(tag) > TAG_LIMIT or TAG_SEPARATOR in tag or not tag.isprintable():
            detail = f"have at most {TAG_LIMIT} characters each, no `{TAG_SEPARATOR}` and no control characters"
            raise InvalidField("tags", detail)
    return tuple(sorted(tags))


def check_attributes(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Attributes that can be kept, as they are. Raises InvalidField.

    Also for what no mail could have as variables: they leave in one event with those of 499 others, which is read whole
    or not at all.
    """
    if len(given) > MOST_ATTRIBUTES:
        raise InvalidField("attributes", f"may be at most {MOST_ATTRIBUTES}")
    _check_names(given)
    try:
        check_variables(dict(given))
        written = orjson.dumps(given)
    except ValueError as exc:
        raise InvalidField("attributes", str(exc)) from None
    if len(written) > ATTRIBUTES_LIMIT:
        raise InvalidField("attributes", f"may have at most {ATTRIBUTES_LIMIT} bytes of JSON")
    if _NUL in written and any(_has_nul(value) for value in given.values()):
        raise InvalidField("attributes", "must not contain NUL")
    return given


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if not 0 < len(name) <= ATTRIBUTE_NAME_LIMIT or not name.isprintable():
            detail = f"need names of 1 to {ATTRIBUTE_NAME_LIMIT} characters, without control characters"
            raise InvalidField("attributes", detail)


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in name or _has_nul(each) for name, each in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))
