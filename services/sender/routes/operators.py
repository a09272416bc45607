"""Who may operate, and how lists are read page by page.

Operators act on all accounts: a key with the scope `operate` belongs to one, but it names the account it means.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
from fastapi import Query, Request

from shared.access import ApiKey, ApiScope, KeyLookup
from shared.problems import Problem, invalid_content
from shared.web import authenticate

Authorize = Callable[[Request], Awaitable[ApiKey]]
"""The caller's key. Raises Problem 401, 403 or 503."""

After = Annotated[str | None, Query(max_length=1000, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=500, description="entries of a page")]


def create_authorize(keys: KeyLookup) -> Authorize:
    """Admit keys with the scope `operate`."""

    async def authorize(request: Request) -> ApiKey:
        return await authenticate(request, keys, ApiScope.OPERATE)

    return authorize


def sign(key: ApiKey) -> str:
    """How a decision names who took it: the key's account, name and first characters."""
    return f"{key.account}/{key.name} {key.hint}"


def write_cursor(*position: str) -> str:
    """A position in a list, as the text that callers pass back."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def read_cursor(text: str, count: int) -> list[str]:
    """The `count` parts of a position. Raises Problem 422."""
    try:
        position: Any = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError):
        position = None
    if not isinstance(position, list) or len(position) != count:
        raise refuse_cursor()
    if not all(isinstance(each, str) and "\0" not in each for each in position):
        raise refuse_cursor()
    return position


def refuse_cursor() -> Problem:
    """What `after` is that no page has given."""
    return invalid_content(
        [{"detail": "not a cursor: pass `next` of the page before as it is", "pointer": "/query/after"}]
    )
