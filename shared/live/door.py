"""Who may listen: by an API key or a ticket, from which pages; and what is answered where no stream is to be had."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from fastapi import WebSocket
from starlette.requests import HTTPConnection

from shared.access import AccessUnavailable, ApiKey, ApiScope, KeyLookup, digest_key
from shared.authenticating import admit, authenticate, read_bearer
from shared.live.slots import TooManyStreams
from shared.live.streams import IsAllowed
from shared.live.tickets import InvalidTicket, TicketOffice
from shared.problems import Problem


class Door:
    """Lets listeners in whose key has `scope`, and pages of `allowed_origins`."""

    def __init__(
        self, keys: KeyLookup, office: TicketOffice, scope: ApiScope, allowed_origins: tuple[str, ...]
    ) -> None:
        self._keys = keys
        self._office = office
        self._scope = scope
        self._allowed_origins = allowed_origins

    async def admit(self, caller: HTTPConnection, ticket: str | None) -> tuple[ApiKey, IsAllowed]:
        """The listener's key, and what tells later whether it is still good. Raises Problem 401, 403, 429, 503."""
        key, digest = await self._authenticate(caller, ticket)

        async def is_allowed() -> bool:
            try:
                found = await self._keys.find_by_digest(digest)
            except AccessUnavailable:
                return False  # PostgreSQL has been away for a quarter of an hour
            return found is not None and self._scope in found.scopes and found.may_call_from(caller.state.caller)

        return key, is_allowed

    def check_origin(self, socket: WebSocket) -> None:
        """A browser lets any page open a WebSocket anywhere. No cookie is read here, so that nobody's page could do it
        in another's name; still, what the setting says of other origins holds for both ways to listen.
        """
        origin = socket.headers.get("origin", "").lower()
        host = socket.headers.get("host", "").lower()
        if origin and origin not in self._allowed_origins and urlsplit(origin).netloc != host:
            detail = "Pages of this origin may not listen; MILENA_ALLOWED_ORIGINS names those that may."
            raise Problem(403, "origin-not-allowed", detail)

    async def _authenticate(self, caller: HTTPConnection, ticket: str | None) -> tuple[ApiKey, bytes]:
        secret = read_bearer(caller)
        if secret or not ticket:
            return await authenticate(caller, self._keys, self._scope), digest_key(secret or "")
        try:
            known = self._office.read(ticket)
        except InvalidTicket:
            detail = "The ticket is not valid, or older than a minute. Get another: POST /v1/live/tickets"
            raise Problem(401, "ticket-invalid", detail) from None
        if known.scope != self._scope:
            raise Problem(403, "scope-missing", f"The ticket is not for the scope {self._scope}.", scope=self._scope)
        return await admit(caller, self._keys.find_by_digest(known.digest), self._scope), known.digest


@contextmanager
def answer_too_many() -> Iterator[None]:
    """Raises Problem 429 or 503 where no further stream may be opened."""
    try:
        yield
    except TooManyStreams as exc:
        whose = "Your account" if exc.own else "This server"
        detail = f"{whose} has {exc.limit} streams open here, which is as many as it may have. Close one, or wait."
        raise Problem(429 if exc.own else 503, "too-many-streams", detail, limit=exc.limit) from exc
