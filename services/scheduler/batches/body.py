"""The body of an upload as it comes."""

import hashlib
import time
from collections.abc import AsyncIterator

from fastapi import Request
from starlette.requests import ClientDisconnect

from shared.access import ApiKey
from shared.bodies import cut_off
from shared.problems import Problem
from shared.serving import STOP_GRACE_S, find_stopping

_STOP_PATIENCE_S = STOP_GRACE_S - 3  # then the server would end the upload without a word

_STOPS = "This process has to stop before all of it has come. Send it again."


class HashedBody:
    """A body as it comes, and the fingerprint of what has come, with what was said beside it."""

    def __init__(self, request: Request, key: ApiKey, said: str) -> None:
        self._request = request
        self._stopping = find_stopping(request.scope)
        self._hash = hashlib.blake2b(f"{key.test}\n{said}\n".encode(), digest_size=16)

    async def read(self) -> AsyncIterator[bytes]:
        """Its parts. Raises Problem 400 where the connection ends before it does, 503 where the process has to stop."""
        until = None
        try:
            async for data in self._request.stream():
                self._hash.update(data)
                yield data
                if self._stopping and self._stopping.is_set():
                    until = until or time.monotonic() + _STOP_PATIENCE_S
                    if time.monotonic() > until:
                        raise Problem(503, "unavailable", _STOPS)
        except ClientDisconnect:
            raise cut_off() from None

    @property
    def fingerprint(self) -> bytes:
        """Equal for the same upload."""
        return self._hash.digest()
