"""Where a page ends, as the text that callers pass back: opaque to them, checked when it comes again.

Base64url without padding, of a JSON array of strings.
"""

import base64
import binascii
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

import orjson

from shared.problems import Problem, invalid_content


def write_cursor(*position: str) -> str:
    """A position in a list."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def write_time_cursor(moment: datetime, item_id: UUID, of: str = "") -> str:
    """A position in a list that is ordered by a time with a zone, and by id where that is equal.

    `of` tells the list from others: its cursors are refused there.
    """
    return write_cursor(moment.isoformat(), str(item_id), *([of] if of else []))


def mark_list(*parts: str) -> str:
    """What tells a list from others (`of`): its account, its filters, its range."""
    return blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def read_cursor(text: str, count: int, pointer: str) -> list[str]:
    """The `count` parts of a position. Raises Problem 422, which points at the field it was given in."""
    try:
        position: Any = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError):
        position = None
    if not isinstance(position, list) or len(position) != count:
        raise _refuse(pointer)
    if not all(isinstance(each, str) and "\0" not in each for each in position):
        raise _refuse(pointer)
    return position


def read_time_cursor(text: str, pointer: str, of: str = "") -> tuple[datetime, UUID]:
    """A position by time and id. Raises Problem 422, also where the time has no zone, or the list was another."""
    moment, item_id, *mark = read_cursor(text, 3 if of else 2, pointer)
    if mark and mark != [of]:
        detail = "belongs to another list: change nothing but `after` from page to page, or leave it out to begin anew"
        raise invalid_content([{"detail": detail, "pointer": pointer}])
    try:
        at = datetime.fromisoformat(moment)
        if at.tzinfo is None:
            raise _refuse(pointer)
        return at.astimezone(UTC), UUID(item_id)
    except (ValueError, OverflowError):
        raise _refuse(pointer) from None


def _refuse(pointer: str) -> Problem:
    """What no answer has given."""
    return invalid_content([{"detail": "not a cursor: pass `next` of the answer before as it is", "pointer": pointer}])
