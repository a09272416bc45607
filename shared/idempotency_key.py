"""The header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): reading it, refusing because of it."""

import re
from collections.abc import Sequence

from starlette.requests import HTTPConnection

from shared.problems import Problem

_HEADER = b"idempotency-key"
_LENGTH = 255
_STRING = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')  # RFC 8941 §3.3.3
_BARE = re.compile(rb'(?!")[\x20-\x7e]+')
_ESCAPED = re.compile(rb"\\(.)")


def read_idempotency_key(request: HTTPConnection) -> str | None:
    """The request's key, None where it has none. Raises Problem 400."""
    given = [value for name, value in request.scope["headers"] if name == _HEADER]
    return read_key(given) if given else None


def has_idempotency_key(request: HTTPConnection) -> bool:
    """Whether the request has one, right or wrong."""
    return any(name == _HEADER for name, _ in request.scope["headers"])


def read_key(values: Sequence[bytes]) -> str:
    """The key of the header's fields: a string of RFC 8941, or the same without its quotes. Raises Problem 400."""
    value = values[0].strip()
    if len(values) == 1:
        string = _STRING.fullmatch(value)
        key = _ESCAPED.sub(rb"\1", string[1]) if string else value if _BARE.fullmatch(value) else b""
        if 1 <= len(key) <= _LENGTH:
            return key.decode()
    detail = (
        f'Write one Idempotency-Key of 1 to {_LENGTH} printable ASCII characters, for example a UUID: "8e03978e-…".'
    )
    raise Problem(400, "malformed-idempotency-key", detail)


def refuse_in_flight() -> Problem:
    """The same request is at work."""
    detail = "A request with this Idempotency-Key is being carried out. Ask again for its answer."
    return Problem(409, "idempotency-key-in-flight", detail, headers={"Retry-After": "1"})


def refuse_reused() -> Problem:
    """Another request had this key."""
    detail = (
        "This Idempotency-Key has been used for another request in the last 24 hours. Use a new key for a new request."
    )
    return Problem(422, "idempotency-key-reused", detail)
