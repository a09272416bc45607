"""MILENA_RELAYS: what it may say, and that an error names the relay and what to write, never a secret."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.sender.relay_settings import HttpRelaySettings, SmtpRelaySettings
from services.sender.settings import WorkerSettings
from shared.settings import describe_errors

SECRET = "correct-horse"
MAIN = {"name": "main", "host": "smtp.example.org", "username": "ann", "password": SECRET, "tls": "starttls"}
API = {"name": "api", "kind": "http", "url": "https://api.example.org/send", "token": SECRET}


def read(relays: Any, monkeypatch: pytest.MonkeyPatch, **others: str) -> WorkerSettings:
    text = relays if isinstance(relays, str) else json.dumps(relays)
    monkeypatch.setenv("MILENA_RELAYS", text)
    for name, value in others.items():
        monkeypatch.setenv(name, value)
    return WorkerSettings()


def test_relays_are_read_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read([MAIN | {"mails_per_second": 50, "connections": 5}, API], monkeypatch)
    first, second = settings.list_relays()
    assert isinstance(first, SmtpRelaySettings)
    assert (first.name, first.port, first.mails_per_second, first.connections) == ("main", 25, 50, 5)
    assert first.read_password() == SECRET
    assert isinstance(second, HttpRelaySettings)
    assert second.read_token() == SECRET
    assert SECRET not in repr(settings)


def test_secrets_and_the_whole_may_be_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret, whole = tmp_path / "secret", tmp_path / "relays.json"
    secret.write_text(SECRET + "\n")
    whole.write_text(json.dumps([{"name": "main", "host": "h", "username": "ann", "password_file": str(secret)}]))
    (only,) = read(str(whole), monkeypatch).list_relays()
    assert isinstance(only, SmtpRelaySettings)
    assert only.read_password() == SECRET


def test_without_it_the_smtp_settings_describe_the_only_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILENA_SMTP_HOST", "::1")
    monkeypatch.setenv("MILENA_SMTP_MAILS_PER_SECOND", "3.5")
    (only,) = WorkerSettings().list_relays()
    assert isinstance(only, SmtpRelaySettings)
    assert (only.name, only.mails_per_second, only.connections) == ("::1:2525", 3.5, 20)


def test_a_password_without_a_username_is_still_ignored_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILENA_SMTP_PASSWORD", SECRET)
    (only,) = WorkerSettings().list_relays()
    assert isinstance(only, SmtpRelaySettings)
    assert only.read_password() is None


def test_both_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="remove MILENA_SMTP_HOST, or remove MILENA_RELAYS"):
        read([MAIN], monkeypatch, MILENA_SMTP_HOST="elsewhere")


@pytest.mark.parametrize(
    ("relays", "told"),
    [
        ("[", "no valid JSON at line 1"),
        ("/no/such/file.json", "the file cannot be read (FileNotFoundError)"),
        ("{}", "write a JSON array of relays"),
        ([], "write a JSON array of relays"),
        ([5], "relay 1: write an object"),
        ([MAIN, MAIN], "two relays are called main"),
        ([MAIN | {"kind": "pigeon"}], "relay 1 (main): kind is smtp or http"),
        ([MAIN | {"port": 0}], "relay 1 (main): port: "),
        ([MAIN | {"prot": 1}], "relay 1 (main): prot is no setting of a relay of this kind"),
        ([MAIN, {"name": "b"}], "relay 2 (b): host: Field required"),
        ([{"host": "h"}], "relay 1: name: Field required"),
        ([{"name": "a", "host": "h", "username": "u"}], "relay 1 (a): username needs password or password_file"),
        ([{"name": "a", "host": "h", "password": SECRET}], "relay 1 (a): a password needs username"),
        ([MAIN | {"password_file": "/x"}], "give password or password_file, not both"),
        ([{"name": "a", "host": "h", "username": "u", "password_file": "/no/such"}], "password_file cannot be read"),
        ([API | {"url": "ftp://x"}], "relay 1 (api): url: write https://"),
        ([API | {"url": f"https://u:{SECRET}@x/"}], "url must not hold credentials"),
        ([API | {"token": None}], "give either token or token_file"),
        ([API | {"mails_per_second": 0}], "relay 1 (api): mails_per_second: "),
    ],
)
def test_an_error_says_which_relay_and_what_to_write(relays: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError) as caught:
        read(relays, monkeypatch)
    (line,) = describe_errors(caught.value)
    assert line.startswith("MILENA_RELAYS: ")
    assert told in line
    assert SECRET not in line
