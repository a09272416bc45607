"""Are these callbacks and webhooks from Milena? Standard Webhooks, with the standard library alone. Pure.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence

from milena.errors import WebhookRejected
from milena.status import Event, read_time

TOLERANCE_S = 300.0
_PREFIX = "whsec_"


def verify_webhook(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance_s: float = TOLERANCE_S,
    now: float | None = None,
) -> Event:
    """The event of a signed request. Raises WebhookRejected, ValueError where the secret itself is none.

    `body` exactly as it came. Several secrets are each tried: rotate them without losing a request. Whether the same
    event came before is for the receiver to know, by its `id`.
    """
    body = body.encode() if isinstance(body, str) else body
    found = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, sent_at, signatures = (found[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as exc:
        raise WebhookRejected(f"the header {exc.args[0]} is missing") from None
    _check_time(sent_at, tolerance_s, time.time() if now is None else now)
    signed = b".".join((message_id.encode(), sent_at.encode(), body))
    secrets = [secret] if isinstance(secret, str) else secret
    expected = [hmac.digest(_read_secret(each), signed, hashlib.sha256) for each in secrets]
    # Every pair is compared, so that the time it takes says nothing.
    if not sum(hmac.compare_digest(a, b) for a in expected for b in _read_signatures(signatures)):
        raise WebhookRejected("no signature is made with this secret")
    return _read_event(message_id, body)


def sign_webhook(body: bytes, secret: str, message_id: str, sent_at: int) -> dict[str, str]:
    """The headers of a signed request; for tests of a receiver."""
    digest = hmac.digest(_read_secret(secret), b"%b.%d.%b" % (message_id.encode(), sent_at, body), hashlib.sha256)
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": message_id, "webhook-timestamp": str(sent_at), "webhook-signature": signature}


def _check_time(sent_at: str, tolerance_s: float, now: float) -> None:
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) <= 15):
        raise WebhookRejected("webhook-timestamp is not a number of seconds")
    if abs(now - int(sent_at)) > tolerance_s:
        raise WebhookRejected("the request was signed too long ago, or in the future")


def _read_secret(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the webhook secret is not whsec_ and base64") from None


def _read_signatures(header: str) -> list[bytes]:
    found = []
    for each in header.split():
        version, _, signature = each.partition(",")
        try:
            decoded = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError):
            continue
        if version == "v1":
            found.append(decoded)
    return found


def _read_event(message_id: str, body: bytes) -> Event:
    try:
        content = json.loads(body)
        return Event(message_id, str(content["type"]), read_time(content.get("timestamp")), dict(content["data"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise WebhookRejected("the body is not an event of Milena's") from None
