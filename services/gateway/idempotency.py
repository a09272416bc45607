"""`Idempotency-Key`: a request that is repeated is the same mail (P1; draft-ietf-httpapi-idempotency-key-header-07).

The key's row is written before anything is published, with the identity the mail will have. So a repeat after a lost
answer gets that answer again, and one after a killed process publishes the same mail again, under the same id and with
the same content: the ledger sends it once. Without the header nothing of this is touched.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Protocol

import orjson
import structlog
from fastapi import Request, Response

from services.gateway.idempotency_store import Answer, Claim, Taken, Wanted
from shared.access import ApiKey
from shared.composing.composer import Identity, new_identity
from shared.idempotency_key import has_idempotency_key, read_idempotency_key, refuse_in_flight, refuse_reused
from shared.metrics import IDEMPOTENT_REQUESTS
from shared.problems import Problem, invalid_content
from shared.retrying import Unavailable, answer_within

log = structlog.get_logger(__name__)

_CLAIM_S, _NOTE_S = 3.0, 1.5  # PostgreSQL may stall; a mail that is accepted does not wait for it


@dataclass(frozen=True, slots=True)
class StillOpen:
    """An answer for now: a repeat is to try again, as the same mails."""

    response: Response


Act = Callable[[Identity], Awaitable[Response | StillOpen]]
"""Carries a request out. A Problem says that nothing was published, unless it has `outcome="unknown"`."""


class Keys(Protocol):
    """Where keys are kept (KeyStore). Every method raises Unavailable."""

    async def claim(self, wanted: Wanted) -> Claim | Answer | Taken:
        """Take the key, unless it is taken."""

    async def answer(self, claim: Claim, answer: Answer) -> None:
        """Keep the answer for good."""

    async def release(self, claim: Claim) -> None:
        """Nothing was published."""

    async def reopen(self, claim: Claim) -> None:
        """Something may have been published."""


class Idempotency:
    """Carries requests out once for each key."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def run(self, request: Request, key: ApiKey, payload: Mapping[str, Any], act: Act) -> Response:
        """`act`, or what it has answered before under the request's Idempotency-Key; without the header simply `act`.

        Raises Problem: 400, 409, 422 or 503 because of the key, or whatever `act` raises.
        """
        idempotency_key = read_idempotency_key(request)
        if idempotency_key is None:
            return _take(await act(new_identity()))
        wanted = Wanted(
            key.account,
            idempotency_key,
            fingerprint(request.scope["path"], payload, is_test=key.test),
            identity=new_identity(),
        )
        found = await self._claim(wanted)
        if isinstance(found, Claim):
            IDEMPOTENT_REQUESTS.labels(found="new" if found.is_first else "again").inc()
            return await self._act(found, act)
        if isinstance(found, Answer):
            IDEMPOTENT_REQUESTS.labels(found="answered").inc()
            return _replay(found)
        IDEMPOTENT_REQUESTS.labels(found=found.name.lower()).inc()
        raise _refuse(found)

    async def _claim(self, wanted: Wanted) -> Claim | Answer | Taken:
        try:
            return await answer_within(self._keys.claim(wanted), _CLAIM_S)
        except Unavailable as exc:
            detail = "PostgreSQL is away, and an Idempotency-Key cannot be looked up without it. Nothing was written."
            raise Problem(503, "unavailable", f"{detail} Try again.", outcome="refused") from exc

    async def _act(self, claim: Claim, act: Act) -> Response:
        try:
            result = await act(claim.identity)
        except Problem as problem:
            is_unknown = problem.extra.get("outcome") == "unknown"
            await self._note((self._keys.reopen if is_unknown else self._keys.release)(claim))
            raise
        except Exception:
            await self._note(self._keys.reopen(claim))
            raise
        if isinstance(result, StillOpen):
            await self._note(self._keys.reopen(claim))
        else:
            answer = Answer(result.status_code, result.headers.get("location"), bytes(result.body))
            await self._note(self._keys.answer(claim, answer))
        return _take(result)

    async def _note(self, change: Awaitable[None]) -> None:
        """What has happened counts, noted or not: without the note a repeat publishes the same mail once more."""
        try:
            await answer_within(change, _NOTE_S)
        except Unavailable as exc:
            log.warning("an idempotency key is not noted", error=str(exc))


def find_moment(request: Request, identity: Identity) -> datetime | None:
    """For which moment a request is carried out, whenever that is: with an Idempotency-Key, that of its first try."""
    return identity.requested_at if has_idempotency_key(request) else None


def fingerprint(path: str, payload: Mapping[str, Any], *, is_test: bool = False) -> bytes:
    """Equal for the same request, however its body was written. The API key in it (`token`) may be another one.

    But not a test key for another: what was simulated must not stand for what is to be sent.
    """
    said = {name: value for name, value in payload.items() if name != "token"}
    try:
        written = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        raise invalid_content([{"detail": "is nested too deeply", "pointer": ""}]) from None
    kind = b"test\n" if is_test else b""
    return blake2b(b"%b%b\n%b" % (kind, path.rstrip("/").encode(), written), digest_size=16).digest()


def _take(result: Response | StillOpen) -> Response:
    return result.response if isinstance(result, StillOpen) else result


def _replay(answer: Answer) -> Response:
    headers = {"idempotent-replayed": "true"} | ({"location": answer.location} if answer.location else {})
    return Response(answer.body, answer.status, headers, "application/json")


def _refuse(taken: Taken) -> Problem:
    return refuse_in_flight() if taken is Taken.IN_FLIGHT else refuse_reused()
