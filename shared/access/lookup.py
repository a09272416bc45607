"""Finding a caller's key without asking PostgreSQL for each request.

A key is asked for again after 3 s, so a revocation acts within 5. While PostgreSQL is away, a key it has confirmed
goes on for at most 15 minutes; one it has not cannot be judged.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from shared.access.keys import ApiKey, digest_key, has_key_form
from shared.recent import Recent
from shared.retrying import Unavailable


class AccessUnavailable(Unavailable):
    """The key is not known here, and PostgreSQL does not answer."""


class KeySource(Protocol):
    """Where keys come from."""

    async def find_key(self, digest: bytes) -> ApiKey | None:
        """The key with this digest, unless revoked or expired. Raises Unavailable."""


class KeyLookup:
    """Cached look-ups, bounded: beyond `size` the key unused for longest is forgotten.

    `on_use` hears the id of each key that is found, and must not block.
    """

    def __init__(
        self,
        source: KeySource,
        *,
        fresh: timedelta = timedelta(seconds=3),
        outage: timedelta = timedelta(minutes=15),
        answer_within: timedelta = timedelta(seconds=1.5),
        size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        on_use: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._wall_clock = wall_clock
        self._on_use = on_use
        self._recent: Recent[bytes, ApiKey] = Recent(
            source.find_key, capacity=size, fresh=fresh, outage=outage, answer_within=answer_within, clock=clock
        )

    async def find(self, secret: str) -> ApiKey | None:
        """The key of this secret, None where there is none (any more). Raises AccessUnavailable."""
        return await self.find_by_digest(digest_key(secret)) if has_key_form(secret) else None

    async def find_by_digest(self, digest: bytes) -> ApiKey | None:
        """The same for whoever has kept of the secret only what is stored of it, too. Raises AccessUnavailable."""
        try:
            key = await self._recent.find(digest)
        except Unavailable as exc:
            raise AccessUnavailable("the API key cannot be checked") from exc
        if key is None:
            return None
        if key.expires_at and key.expires_at.timestamp() <= self._wall_clock():  # also of a key that is remembered
            return None
        self._on_use(key.id)
        return key
