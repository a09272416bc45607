"""The client's verification agrees with the one of the Standard Webhooks package, and refuses what it must."""

import base64
import json
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from milena import WebhookRejected, sign_webhook, verify_webhook

SECRET, OTHER = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
NOW = 1_800_000_000
TIME = datetime.fromtimestamp(NOW, UTC)
BODY = json.dumps(
    {"type": "email.sent", "timestamp": "2026-01-31T09:00:00Z", "data": {"id": "m1", "subject": "Grüße"}}
).encode()


def headers(secret: str = SECRET, sent_at: int = NOW) -> dict[str, str]:
    signature = Webhook(secret).sign("e1", datetime.fromtimestamp(sent_at, UTC), BODY.decode())
    return {"webhook-id": "e1", "webhook-timestamp": str(sent_at), "webhook-signature": signature}


def test_what_the_package_signs_is_an_event() -> None:
    event = verify_webhook(BODY, headers(), SECRET, now=NOW)
    assert (event.id, event.type, event.email_id, event.data["subject"]) == ("e1", "email.sent", "m1", "Grüße")
    assert event.time == datetime(2026, 1, 31, 9, tzinfo=UTC)
    assert verify_webhook(BODY.decode(), {k.title(): v for k, v in headers().items()}, SECRET, now=NOW) == event


def test_what_we_sign_the_package_takes() -> None:
    sent_at = int(datetime.now(UTC).timestamp())
    Webhook(SECRET).verify(BODY.decode(), sign_webhook(BODY, SECRET, "e1", sent_at))


def test_secrets_and_signatures_may_be_several_while_they_are_rotated() -> None:
    both = headers() | {"webhook-signature": f"v1a,AAAA {headers(OTHER)['webhook-signature']} v1,%% nonsense"}
    assert verify_webhook(BODY, both, [SECRET, OTHER], now=NOW).id == "e1"
    with pytest.raises(WebhookRejected):
        verify_webhook(BODY, both, SECRET, now=NOW)


@pytest.mark.parametrize(
    ("changed", "body", "now"),
    [
        ({"webhook-id": "e2"}, BODY, NOW),
        ({"webhook-timestamp": str(NOW + 1)}, BODY, NOW),
        ({"webhook-timestamp": "soon"}, BODY, NOW),
        ({"webhook-timestamp": "9" * 400}, BODY, NOW),
        ({"webhook-signature": "v1,AAAA"}, BODY, NOW),
        ({"webhook-signature": ""}, BODY, NOW),
        ({}, BODY + b" ", NOW),
        ({}, BODY, NOW + 301),
        ({}, BODY, NOW - 301),
    ],
)
def test_what_is_changed_or_old_is_refused(changed: dict[str, str], body: bytes, now: int) -> None:
    with pytest.raises(WebhookRejected):
        verify_webhook(body, headers() | changed, SECRET, now=now)


def test_a_missing_header_is_named() -> None:
    with pytest.raises(WebhookRejected, match="webhook-signature"):
        verify_webhook(BODY, {"webhook-id": "e1", "webhook-timestamp": str(NOW)}, SECRET, now=NOW)


@pytest.mark.parametrize("body", [b"[]", b"x", b"{}", b'{"type": "a", "data": 1}', b"\xff"])
def test_a_signed_body_that_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookRejected, match="not an event"):
        verify_webhook(body, sign_webhook(body, SECRET, "e1", NOW), SECRET, now=NOW)


def test_a_secret_that_is_none_is_a_mistake_of_ours_and_not_told() -> None:
    with pytest.raises(ValueError, match="whsec_") as caught:
        verify_webhook(BODY, headers(), "whsec_not base64!", now=NOW)
    assert not isinstance(caught.value, WebhookRejected)
    assert "not base64!" not in str(caught.value)
