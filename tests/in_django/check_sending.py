"""`send_mail.delay`, mail that waits for the commit, and outboxes for tests of applications."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.db import transaction
from django.test import override_settings

import milena
from milena.django import NotSent, send_mail

TO = ["ann@example.org"]


class Undo(Exception):
    pass


@pytest.fixture
def on_commit() -> Iterator[None]:
    with override_settings(MILENA_ON_COMMIT=True):
        yield


@pytest.fixture
def locmem() -> Iterator[list[Any]]:
    """What Django's test runner does."""
    with override_settings(EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend"):
        mail.outbox = []
        yield mail.outbox
        del mail.outbox


def test_send_mail_is_djangos() -> None:
    assert inspect.signature(send_mail) == inspect.signature(mail.send_mail)
    assert send_mail("delay", "b", None, TO, html_message="<p>") == 1


def test_delay_gives_a_handle() -> None:
    handle = send_mail.delay("delay", "b", None, TO, html_message="<p>b</p>", tags=["june"], metadata={"order": 7})
    assert isinstance(handle, milena.Handle)
    found = handle.status()
    assert (found.data["subject"], found.data["tags"], found.data["metadata"]) == ("delay", ["june"], {"order": 7})


def test_delay_may_fail_silently() -> None:
    with pytest.raises(milena.SenderNotAllowed):
        send_mail.delay("delay", "b", "somebody@elsewhere.test", TO)
    for handle in (
        send_mail.delay("delay", "b", "somebody@elsewhere.test", TO, fail_silently=True),
        send_mail.delay("delay", "b", None, []),
    ):
        with pytest.raises(NotSent):
            _ = handle.id


def test_a_transaction_that_is_rolled_back_sends_nothing(on_commit: None) -> None:
    message = EmailMessage("rolled back", "b", to=TO)
    with pytest.raises(Undo), transaction.atomic():
        assert message.send() == 1
        handle = send_mail.delay("rolled back", "b", None, TO)
        raise Undo
    assert not hasattr(message, "milena_handle")
    with pytest.raises(NotSent):
        handle.status()
    with transaction.atomic():
        with pytest.raises(Undo), transaction.atomic():
            send_mail("rolled back", "to its savepoint", None, TO)
            raise Undo
        send_mail("committed", "b", None, TO)


def test_a_mail_goes_out_with_the_commit_as_it_was_when_it_was_sent(on_commit: None) -> None:
    message = EmailMessage("committed", "b", to=TO)
    with transaction.atomic():
        message.send()
        handle = send_mail.delay("committed", "b", None, TO)
        message.subject = "rolled back"
        with pytest.raises(NotSent):
            _ = handle.id
        assert "None" in repr(handle)
    assert message.milena_handle.id
    assert handle.id in repr(handle)
    assert handle.status().id == handle.id


def test_without_a_transaction_it_goes_out_at_once(on_commit: None) -> None:
    message = EmailMessage("committed", "b", to=TO)
    message.send()
    assert message.milena_handle.id


def test_a_message_that_cannot_be_is_told_before_the_commit(on_commit: None) -> None:
    with transaction.atomic(), pytest.raises(ValueError, match="newlines"):
        EmailMessage("a\nb", "b", to=TO).send()


def test_an_error_after_the_commit_may_be_silent(on_commit: None) -> None:
    with pytest.raises(milena.SenderNotAllowed), transaction.atomic():
        EmailMessage("committed", "b", "somebody@elsewhere.test", to=TO).send()
    with transaction.atomic():
        send_mail.delay("committed", "b", "somebody@elsewhere.test", TO, fail_silently=True)
        mail.get_connection(fail_silently=True).send_messages(
            [EmailMessage("committed", "b", "somebody@elsewhere.test", to=TO)]
        )


def test_under_djangos_test_runner_mail_is_in_its_outbox(locmem: list[Any]) -> None:
    handle = send_mail.delay("outbox", "b", None, TO)
    assert [message.subject for message in mail.outbox] == ["outbox"]
    status = handle.wait()
    assert (status.status, status.recipients[0].address) == ("sent", "ann@example.org")
    with pytest.raises(milena.AlreadyFinal):
        handle.cancel()


def test_milena_outbox(milena_outbox: list[Any]) -> None:
    message = EmailMessage("outbox", "b", to=TO, bcc=["b@example.org"])
    message.milena = {"tags": ["june"]}
    assert message.send() == 1
    message.subject = "changed"
    message.to.append("c@example.org")
    assert send_mail.delay("second", "b", None, TO).id
    assert [each.subject for each in milena_outbox] == ["outbox", "second"]
    assert milena_outbox[0].to == TO
    assert milena_outbox[0].milena_payload["tags"] == ["june"]
    assert milena_outbox[0].milena_payload["bcc"] == ["b@example.org"]


@override_settings(MILENA_CALLBACK_URL="https://shop.example.com/milena/")
def test_every_mail_may_have_the_callback_of_the_settings(milena_outbox: list[Any]) -> None:
    send_mail("outbox", "b", None, TO)
    send_mail.delay("outbox", "b", None, TO, callback="https://other.example.com/")
    first, second = (message.milena_payload["callback"] for message in milena_outbox)
    assert first == {"url": "https://shop.example.com/milena/", "on": ["sent", "failed"]}
    assert second == "https://other.example.com/"


def test_milena_outbox_knows_what_was_committed(milena_outbox: list[Any], on_commit: None) -> None:
    with pytest.raises(Undo), transaction.atomic():
        send_mail("undone", "b", None, TO)
        raise Undo
    with transaction.atomic():
        send_mail("done", "b", None, TO)
        assert not milena_outbox
    assert [each.subject for each in milena_outbox] == ["done"]


def test_milena_outbox_comes_before_the_backend_of_the_settings(locmem: list[Any], milena_outbox: list[Any]) -> None:
    send_mail("outbox", "b", None, TO)
    assert (len(milena_outbox), len(mail.outbox)) == (1, 0)
