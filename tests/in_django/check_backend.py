"""What Django's own SMTP backend does, ours does, where it makes sense; against a real gateway."""

import os
import threading
from typing import Any

import django
import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.core.management import call_command
from django.test import override_settings

import milena
from milena.django import EmailBackend, UnsupportedFeature

DEAD = {"MILENA_URL": "http://127.0.0.1:9", "MILENA_API_KEY": "mk_nobody", "MILENA_TIMEOUT": 0.0}
FOREIGN = "somebody@elsewhere.test"


def build(subject: str = "backend", sender: str = "no-reply@example.com", **options: Any) -> Any:
    return EmailMessage(subject, "Content\n", sender, options.pop("to", ["ann@example.org"]), **options)


def test_messages_are_counted() -> None:
    backend = EmailBackend()
    assert backend.send_messages([build(), build()]) == 2
    assert backend.send_messages(iter((build(), build()))) == 2
    assert backend.send_messages([build(), build(to=[]), build(to=[""])]) == 1


@override_settings(**DEAD)
def test_nothing_to_send_opens_nothing() -> None:
    assert EmailBackend().send_messages([]) == 0
    assert EmailBackend().send_messages([build(to=[])]) == 0
    assert build(to=[]).send() == 0


def test_a_connection_is_opened_once_and_closed_as_often_as_one_likes() -> None:
    backend = EmailBackend()
    backend.close()
    assert backend.open() is True
    assert backend.open() is False
    assert backend.send_messages([build()]) == 1
    assert backend.open() is False, "one that was opened by hand stays open"
    backend.close()
    backend.close()
    assert backend.open() is True
    with EmailBackend() as within:
        assert within.open() is False
    assert within.open() is True


@override_settings(**DEAD)
def test_a_server_that_is_away_is_an_error_unless_it_is_to_be_silent() -> None:
    with pytest.raises(milena.ConnectionFailed):
        EmailBackend().send_messages([build()])
    with pytest.raises(ConnectionError):
        EmailBackend().send_messages([build(), build()])
    assert EmailBackend(fail_silently=True).send_messages([build()]) == 0


def test_a_sender_that_is_not_allowed_is_an_error_unless_it_is_to_be_silent() -> None:
    with pytest.raises(milena.SenderNotAllowed):
        build(sender=FOREIGN).send()
    assert EmailBackend(fail_silently=True).send_messages([build(sender=FOREIGN)]) == 0


def test_of_several_those_that_are_acceptable_are_accepted() -> None:
    first, second, third = build(), build(sender=FOREIGN), build()
    with pytest.raises(milena.SenderNotAllowed) as caught:
        EmailBackend().send_messages([first, second, third])
    assert caught.value.__notes__ == ["2 of 3 messages were accepted"]
    assert first.milena_handle != third.milena_handle
    assert not hasattr(second, "milena_handle")
    assert EmailBackend(fail_silently=True).send_messages([build(), build(sender=FOREIGN), build()]) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"subject": "a\nBcc: x@example.org"},
        {"sender": "a@example.com\r\n"},
        {"to": ["a@example.org\nb@example.org"]},
        {"cc": ["a@example.org\n"]},
        {"bcc": ["a@example.org\n"]},
        {"reply_to": ["a@example.org\n"]},
        {"headers": {"X-A": "a\nb"}},
        {"headers": {"To": "a\n <ann@example.org>"}},
    ],
)
def test_nobody_writes_headers_through_a_line_break(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="newlines"):
        EmailBackend(fail_silently=True).send_messages([build(**options)])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"headers": {"Bcc": "x@example.org"}}, 'use the argument "bcc"'),
        ({"headers": {"Sender": "x@example.org"}}, "Sender"),
        ({"headers": {"Content-Type": "x"}}, "Content-Type"),
        ({"headers": {"To": "stranger@example.org"}}, "names somebody who does not get the mail"),
        ({"headers": {"Cc": "stranger@example.org"}}, "names somebody who does not get the mail"),
    ],
)
def test_what_cannot_be_sent_as_it_is_meant_is_an_error(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedFeature, match=words):
        build(**options).send()


def test_a_body_of_another_kind_is_an_error() -> None:
    message = mail.EmailMultiAlternatives("s", "b", "no-reply@example.com", ["ann@example.org"])
    message.attach_alternative("BEGIN:VCALENDAR", "text/calendar")
    with pytest.raises(UnsupportedFeature, match="text/calendar"):
        message.send()


def test_sending_twice_is_two_mails_and_leaves_the_message_as_it_was() -> None:
    message = build(bcc=["b@example.org"], headers={"X-A": "1"})
    own = ("_", "connection", "milena")
    before = {name: value for name, value in vars(message).items() if not name.startswith(own)}
    message.send()
    first = message.milena_handle
    message.send()
    assert first != message.milena_handle
    after = {name: value for name, value in vars(message).items() if not name.startswith(own)}
    assert after == before


def test_additions_of_milena() -> None:
    message = build("additions")
    message.milena = {"tags": ["june"], "metadata": {"order": 1}, "idempotency_key": f"additions-{os.getpid()}"}
    message.send()
    message.send()


def test_threads_share_the_connections() -> None:
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(build().send())) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1] * 5


def test_every_way_of_django_to_send_goes_through(settings_admins: None) -> None:
    assert mail.send_mail("ways", "b", None, ["ann@example.org"], html_message="<p>b</p>") == 1
    assert mail.send_mail("ways", "b", None, ["ann@example.org"], auth_user="u", auth_password="p") == 1
    assert mail.send_mass_mail([("ways", "b", None, ["ann@example.org"]), ("ways", "b", None, ["b@example.org"])]) == 2
    mail.mail_admins("ways", "b", html_message="<p>")
    mail.mail_managers("ways", "b")
    call_command("sendtestemail", "ann@example.org")


@pytest.fixture
def settings_admins() -> Any:
    people: Any = ["admin@example.org"] if django.VERSION >= (6, 0) else [("Admin", "admin@example.org")]
    with override_settings(ADMINS=people, MANAGERS=people):
        yield


@pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS came with Django 6.1")
def test_mailers() -> None:
    key = os.environ["MILENA_API_KEY"]
    options = {"url": os.environ["MILENA_URL"], "api_key": key}
    mailers = {
        "default": {"BACKEND": "milena.django.EmailBackend"},
        "named": {"BACKEND": "milena.django.EmailBackend", "OPTIONS": options},
        "wrong": {"BACKEND": "milena.django.EmailBackend", "OPTIONS": {"hostname": "x"}},
    }
    with override_settings(MAILERS=mailers):
        assert mail.send_mail("mailers", "b", None, ["ann@example.org"]) == 1
        assert mail.send_mail("mailers", "b", None, ["ann@example.org"], using="named") == 1
        with pytest.raises(mail.InvalidMailer, match="hostname"):
            mail.mailers["wrong"]
