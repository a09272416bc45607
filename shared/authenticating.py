"""Who calls: the API key of a request, what it may do, and how much of it is left."""

import re
from collections.abc import Awaitable
from typing import Any

from fastapi import Request
from starlette.requests import HTTPConnection

from shared.access import AccessUnavailable, ApiKey, ApiScope, KeyLookup
from shared.metrics import RATE_LIMITED
from shared.problems import Problem
from shared.quotas import MAILS, REQUESTS, Exhausted, Quota

_BEARER = re.compile(r"[Bb]earer +([\x21-\x7e]+) *")


def read_bearer(request: HTTPConnection) -> str | None:
    """The key of `Authorization: Bearer …`, None where there is none."""
    match = _BEARER.fullmatch(request.headers.get("authorization", ""))
    return match[1] if match else None


async def authenticate(
    request: HTTPConnection, keys: KeyLookup, scope: ApiScope | None, *, token: str | None = None
) -> ApiKey:
    """The caller's key, from `token` or else the Authorization header. Raises Problem 401, 403, 429 or 503.

    From here on the answer says what the key has left. Without a `scope`: any key will do.
    """
    secret = token or read_bearer(request)
    if not secret:
        raise Problem(401, "not-authenticated", "Give an API key: Authorization: Bearer mk_…")
    return await admit(request, keys.find(secret), scope)


async def admit(request: HTTPConnection, found: Awaitable[ApiKey | None], scope: ApiScope | None) -> ApiKey:
    """The key that a look-up has found, if it may do that. Raises Problem 401, 403 or 503."""
    try:
        key = await found
    except AccessUnavailable as exc:
        raise Problem(503, "unavailable", "The API key cannot be checked at the moment; try again.") from exc
    if key is None:
        raise Problem(401, "not-authenticated", "The API key is not valid, was revoked, or has expired.")
    if key.networks and not key.may_call_from(request.state.caller):
        detail = "This API key is limited to certain networks, and the request comes from another."
        raise Problem(403, "network-not-allowed", detail)
    quota: Quota = request.app.state.quotas.find(key)
    request.scope["state"]["quota"] = quota
    _refuse_beyond(quota.take(REQUESTS))
    if scope and scope not in key.scopes:
        raise Problem(403, "scope-missing", f"The API key lacks the scope {scope}.", scope=str(scope))
    return key


def take_mails(request: Request, count: int = 1) -> None:
    """Count mails that are about to be accepted: all of them, or Problem 429 and none. `authenticate` comes first.

    A mail counts once, however many recipients it has. More than the key may have at once are taken when nothing has
    been taken for long enough, and waited for afterwards.
    """
    if count:
        _refuse_beyond(request.scope["state"]["quota"].take(MAILS, count))


def _refuse_beyond(exhausted: Exhausted | None) -> None:
    if exhausted is None:
        return
    policy, rate, wait_s = exhausted.policy, exhausted.rate, exhausted.retry_after_s
    RATE_LIMITED.labels(limit=policy).inc()
    detail = f"This API key may ask for {rate:g} {policy} a second; try again in {wait_s} s."
    members: dict[str, Any] = {"limit": policy, "rate": rate, "retry_after": wait_s, "violated-policies": [policy]}
    raise Problem(429, "rate-limited", detail, headers={"Retry-After": str(wait_s)}, **members)
