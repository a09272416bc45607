"""What can go wrong. Every error is a MilenaError; what the API refuses is an ApiError of the problem's own type.

None of them ever holds the API key, or the content of a mail.
"""

import json
import re
from collections.abc import Mapping
from typing import Any


class MilenaError(Exception):
    """Anything this client raises by itself."""


class NotConfigured(MilenaError):
    """It is not said where Milena is, or with which key to call it."""


class ConnectionFailed(MilenaError, ConnectionError):
    """Milena did not answer, for as long as the client is patient."""


class StillOnItsWay(MilenaError, TimeoutError):
    """The mail has not come to its end within the time-out; `status` is where it stands."""

    def __init__(self, message: str, status: Any) -> None:
        super().__init__(message)
        self.status = status


class WebhookRejected(MilenaError, ValueError):
    """The request is not signed with the secret, or not now."""


class ApiError(MilenaError):
    """The API answered with an error (RFC 9457).

    `slug` names its type, `errors` are `[{"detail", "pointer"}]`, `document` is all that was answered.
    """

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        self.status = status
        self.document = dict(document)
        self.slug = read_slug(document.get("type"))
        self.detail = str(document.get("detail") or document.get("title") or f"HTTP status {status}")
        self.errors: list[dict[str, str]] = [each for each in document.get("errors") or [] if isinstance(each, dict)]
        self.request_id: str | None = document.get("request_id")
        super().__init__(self._describe())

    def _describe(self) -> str:
        fields = [f"{str(each.get('pointer', '')).strip('/')} {each.get('detail')}" for each in self.errors]
        said = "; ".join(each for each in fields if each not in self.detail)
        return f"{self.detail} {said}".strip() + f" ({self.status} {self.slug})"


class NotAuthenticated(ApiError):
    """The API key is not valid, or not given."""


class NotAllowed(ApiError):
    """The key may not do this."""


class ScopeMissing(NotAllowed):
    """The key lacks a scope; `document["scope"]` names it."""


class SenderNotAllowed(NotAllowed):
    """The key may not send from this address."""


class NotFound(ApiError):
    """There is no such thing in this account."""


class Conflict(ApiError):
    """It cannot be done any more, or not now."""


class AlreadyFinal(Conflict):
    """The mail has come to its end; it cannot be cancelled."""


class TooLarge(ApiError):
    """The mail is over the limit, `document["limit"]` bytes."""


class InvalidContent(ApiError):
    """Some fields are not acceptable; `errors` says which, and why."""


class BatchRefused(InvalidContent):
    """No mail of the batch was accepted; `document["results"]` says of each why."""


class IdempotencyKeyReused(InvalidContent):
    """The idempotency key belongs to another mail of the last 24 hours; a new mail needs a new one."""


class RateLimited(ApiError):
    """Too many requests, and waiting would have taken longer than the client is patient."""


class Unavailable(ApiError):
    """Milena cannot do it at the moment, and nothing was written."""


class OutcomeUnknown(Unavailable):
    """Nobody knows whether the mail was accepted: look for it under `email_id` before you send it again."""

    @property
    def email_id(self) -> str | None:
        """The id under which the mail may be sent."""
        found = self.document.get("id")
        return None if found is None else str(found)


_BY_SLUG: Mapping[str, type[ApiError]] = {
    "scope-missing": ScopeMissing,
    "sender-not-allowed": SenderNotAllowed,
    "already-final": AlreadyFinal,
    "batch-refused": BatchRefused,
    "idempotency-key-reused": IdempotencyKeyReused,
    "outcome-unknown": OutcomeUnknown,
}
_BY_STATUS: Mapping[int, type[ApiError]] = {
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: InvalidContent,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def read_slug(kind: object) -> str:
    """The last part of a problem's `type`, whether that is a URN or an address."""
    return re.split(r"[:/#]", str(kind or "error").rstrip("/"))[-1]


def build_error(status: int, document: Mapping[str, Any]) -> ApiError:
    """The error of a problem document, of the type that fits best."""
    kind = _BY_SLUG.get(read_slug(document.get("type"))) or _BY_STATUS.get(status, ApiError)
    return kind(status, document)


def read_error(status: int, body: bytes) -> ApiError:
    """The error of an answer; a proxy's page of HTML is one, too."""
    try:
        document = json.loads(body)
    except ValueError:
        document = {}
    return build_error(status, document if isinstance(document, dict) else {})
