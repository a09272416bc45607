"""Who may operate, and how lists are read page by page.

Operators act on all accounts: a key with the scope `operate` belongs to one, but it names the account it means.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Query, Request

from shared.access import ApiKey, ApiScope, KeyLookup
from shared.authenticating import authenticate

Entry = TypeVar("Entry")

Authorize = Callable[[Request], Awaitable[ApiKey]]
"""The caller's key. Raises Problem 401, 403 or 503."""

After = Annotated[str | None, Query(max_length=1000, description="`next` of the page before")]
AFTER_POINTER = "/query/after"
Limit = Annotated[int, Query(ge=1, le=500, description="entries of a page")]


def create_authorize(keys: KeyLookup) -> Authorize:
    """Admit keys with the scope `operate`."""

    async def authorize(request: Request) -> ApiKey:
        return await authenticate(request, keys, ApiScope.OPERATE)

    return authorize


def sign(key: ApiKey) -> str:
    """How a decision names who took it: the key's account, name and first characters."""
    return f"{key.account}/{key.name} {key.hint}"


def find_end(entries: Sequence[Entry], limit: int) -> Entry | None:
    """The entry that the next page goes on from; None where this page was not full, so that nothing is left."""
    return entries[-1] if len(entries) == limit else None
