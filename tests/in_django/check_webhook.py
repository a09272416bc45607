"""The view takes what Milena has signed, and nothing else; the checks say what is missing."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, override_settings

from milena import sign_webhook
from milena.django import mail_event

BODY = json.dumps({"type": "email.sent", "timestamp": "2026-01-31T09:00:00Z", "data": {"id": "m1"}}).encode()


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    events: list[Any] = []

    def hear(event: Any, **_: Any) -> None:
        events.append(event)

    mail_event.connect(hear)
    yield events
    mail_event.disconnect(hear)


def post(body: bytes = BODY, secret: str | None = None, **headers: str) -> Any:
    signed = sign_webhook(BODY, secret or settings.MILENA_WEBHOOK_SECRET[0], "e1", int(time.time()))
    client = Client(enforce_csrf_checks=True)
    return client.post("/milena/", body, content_type="application/json", headers={**signed, **headers})


def test_a_signed_request_is_a_signal(heard: list[Any]) -> None:
    assert post().status_code == 204
    [event] = heard
    assert (event.id, event.type, event.email_id) == ("e1", "email.sent", "m1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"body": BODY + b" "},
        {"secret": "whsec_AAAA"},
        {"webhook-id": "e2"},
        {"webhook-timestamp": "1"},
        {"webhook-signature": ""},
    ],
)
def test_anything_else_is_refused(heard: list[Any], wrong: dict[str, Any]) -> None:
    answer = post(**wrong)
    assert (answer.status_code, heard) == (400, [])


def test_only_post(heard: list[Any]) -> None:
    assert Client().get("/milena/").status_code == 405


def test_a_receiver_that_fails_has_it_sent_again(heard: list[Any]) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("the database is away")

    mail_event.connect(fail)
    try:
        assert post().status_code == 500
    finally:
        mail_event.disconnect(fail)
    assert len(heard) == 1, "the other receivers have heard it"


def test_without_a_secret_nothing_is_taken(heard: list[Any]) -> None:
    with override_settings(MILENA_WEBHOOK_SECRET=None), pytest.raises(ImproperlyConfigured):
        post(secret="whsec_AAAA")
    assert not heard


def list_complaints() -> list[str]:
    return [str(each.id) for each in run_checks() if str(each.id).startswith("milena.")]


def test_checks_find_nothing_where_nothing_is_wrong() -> None:
    with override_settings(MILENA_ON_COMMIT="default"):
        assert list_complaints() == []


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"MILENA_URL": "mail.example.com"}, "milena.E001"),
        ({"MILENA_WEBHOOK_SECRET": "secret"}, "milena.E002"),
        ({"MILENA_WEBHOOK_SECRET": None}, "milena.W003"),
        ({"MILENA_ON_COMMIT": "other"}, "milena.E004"),
        ({"MILENA_KEY": "mk_x"}, "milena.W005"),
    ],
)
def test_checks_name_what_is_wrong(wrong: dict[str, Any], complaint: str) -> None:
    with override_settings(**wrong):
        assert list_complaints() == [complaint]
