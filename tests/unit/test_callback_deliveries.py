"""Which requests a result asks for, what they say, and what becomes of a delivery after an attempt."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from pydantic import SecretStr, ValidationError
from standardwebhooks import Webhook

from services.callback.deliveries import Delivery, DeliveryState, plan_delivery
from services.callback.settings import WorkerSettings
from services.callback.signing import sign
from services.callback.verdict import Attempt, Verdict, judge
from shared.access import derive_webhook_secret
from shared.events import EmailFailed, EmailSent

MAIL_ID = UUID("018f3a5e-7c00-7000-8000-000000000001")
EVENT_ID = UUID("018f3a5e-7c00-5000-8000-000000000002")
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
URL = "https://wms.server/callback/?checkout-id=12"
SENT_ONE = [
    {"address": "b@y.org", "state": "sent", "attempt": 1},
    {"address": "c@y.org", "state": "failed", "attempt": 1},
]
SENT_NONE = [{"address": "b@y.org", "state": "failed", "attempt": 1}]


def plan_sent(**fields: Any) -> Delivery | None:
    data = {
        "id": str(MAIL_ID),
        "attempt": 1,
        "recipients": ["b@y.org"],
        "message_id": "<m@x>",
        "relay": "r",
        "response": "250 ok",
        "sent_at": "2026-05-01T11:59:59Z",
        "outstanding": 0,
        "callback": URL,
    } | fields
    return plan_delivery(EmailSent.model_validate(data), EVENT_ID, NOW, data, None)


def plan_failed(**fields: Any) -> Delivery | None:
    data = {"id": str(MAIL_ID), "reason": "rejected", "final": True, "callback": URL} | fields
    return plan_delivery(EmailFailed.model_validate(data), EVENT_ID, NOW, data, None)


def test_a_plain_callback_is_told_of_the_event_that_completes_a_mail_sent_to_somebody() -> None:
    assert plan_sent(complete=True, outcomes=SENT_ONE)
    assert plan_failed(complete=True, outcomes=SENT_ONE)


def test_a_plain_callback_is_not_told_of_anything_else() -> None:
    assert plan_sent(complete=False, outstanding=1) is None
    assert plan_failed(complete=False) is None
    assert plan_failed(complete=True, outcomes=SENT_NONE) is None
    assert plan_failed(complete=True) is None


@pytest.mark.parametrize(
    ("wanted", "told"),
    [(["sent"], "s"), (["failed"], "f"), (["deferred"], "d"), (["sent", "failed", "deferred"], "sfd")],
)
def test_a_listed_callback_is_told_of_each_matching_event_complete_or_not(wanted: list[str], told: str) -> None:
    callback = {"url": URL, "on": wanted}
    planned = {
        "s": plan_sent(callback=callback, outstanding=1),
        "f": plan_failed(callback=callback),
        "d": plan_failed(callback=callback, final=False, reason="deferred"),
    }
    assert "".join(kind for kind, delivery in planned.items() if delivery) == told


def test_a_failure_without_id_or_callback_is_told_to_nobody() -> None:
    assert plan_failed(id=None, complete=True, callback={"url": URL, "on": ["failed"]}) is None
    assert plan_sent(callback=None, complete=True) is None


def test_the_body_holds_type_time_and_the_event_as_published() -> None:
    delivery = plan_sent(complete=True, outcomes=SENT_ONE, a_field_of_tomorrow=1)
    assert delivery
    body = orjson.loads(delivery.body)
    assert (body["type"], body["timestamp"]) == ("email.sent", "2026-05-01T12:00:00.000Z")
    assert body["data"]["response"] == "250 ok"
    assert body["data"]["a_field_of_tomorrow"] == 1
    assert (delivery.url, delivery.event_id, delivery.email_id) == (URL, EVENT_ID, MAIL_ID)


def test_the_same_event_is_the_same_delivery_and_another_url_another() -> None:
    first, again = plan_sent(complete=True), plan_sent(complete=True)
    other = plan_sent(complete=True, callback=f"{URL}3")
    assert first
    assert other
    assert first == again
    assert first.id != other.id


DELAYS = (timedelta(seconds=5), timedelta(minutes=5))


@pytest.mark.parametrize(
    ("attempt", "earlier", "expected"),
    [
        ({"status": 200}, 0, Verdict(DeliveryState.DELIVERED)),
        ({"status": 204}, 2, Verdict(DeliveryState.DELIVERED)),
        ({"status": 500}, 0, Verdict(DeliveryState.PENDING, DELAYS[0])),
        ({"status": 302}, 1, Verdict(DeliveryState.PENDING, DELAYS[1])),
        ({"status": 404}, 2, Verdict(DeliveryState.FAILED)),
        ({"error": "no connection"}, 1, Verdict(DeliveryState.PENDING, DELAYS[1])),
        ({"status": 410}, 0, Verdict(DeliveryState.FAILED)),
        ({"error": "refused", "hopeless": True}, 0, Verdict(DeliveryState.FAILED)),
    ],
)
def test_what_an_attempt_means(attempt: dict[str, Any], earlier: int, expected: Verdict) -> None:
    assert judge(Attempt(NOW, 3, **attempt), earlier, DELAYS) == expected


def test_a_signature_is_accepted_by_the_receivers_library() -> None:
    secret = derive_webhook_secret("m" * 32, "shop")
    headers = sign(secret, EVENT_ID, '{"a": "ü"}'.encode(), datetime.now(UTC))
    assert Webhook(secret).verify('{"a": "ü"}', headers) == {"a": "ü"}
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(derive_webhook_secret("m" * 32, "another")).verify('{"a": "ü"}', headers)


def build_settings(**fields: Any) -> WorkerSettings:
    return WorkerSettings(master_secret=SecretStr("m" * 32), **fields)


def test_the_default_delays_end_after_a_day_and_a_half() -> None:
    delays = build_settings().retry_delays
    assert delays[:3] == (timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30))
    assert delays[-1] == timedelta(hours=24)
    assert len(delays) == 7


def test_settings_are_read_under_our_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILENA_CALLBACK_RETRY_DELAYS_S", "0.5, 2")
    monkeypatch.setenv("MILENA_CALLBACK_ALLOWED_NETWORKS", "127.0.0.0/8,::1/128")
    monkeypatch.setenv("MILENA_TOPIC_PREFIX", "t.")
    settings = build_settings()
    assert settings.retry_delays == (timedelta(seconds=0.5), timedelta(seconds=2))
    assert [str(network) for network in settings.callback_allowed_networks] == ["127.0.0.0/8", "::1/128"]
    assert settings.topic_prefix == "t."


@pytest.mark.parametrize("fields", [{"callback_lease_s": 35}, {"callback_timeout_s": 55, "callback_lease_s": 100}])
def test_times_that_break_the_chain_stop_the_start(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="MILENA_CALLBACK_"):
        build_settings(**fields)
