"""Where a page ends, as the text that callers pass back: opaque to them, checked when it comes again.

Base64url without padding, of a JSON array of strings.
"""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from shared.problems import Problem, invalid_content


def write_cursor(*position: str) -> str:
    """A position in a list."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def write_time_cursor(moment: datetime, item_id: UUID) -> str:
    """A position in a list that is ordered by a time with a zone, and by id where that is equal."""
    return write_cursor(moment.isoformat(), str(item_id))


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


def read_time_cursor(text: str, pointer: str) -> tuple[datetime, UUID]:
    """A position by time and id. Raises Problem 422, also where the time has no zone."""
    moment, item_id = read_cursor(text, 2, pointer)
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
