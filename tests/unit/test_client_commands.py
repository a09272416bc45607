"""The commands of `milena`: what is printed, for people and for machines, and the exit codes."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from milena import Client, NotConfigured, find_configuration
from milena.cli import main
from tests.support.milena_api import FakeApi, accepted, problem, status

TIMELINE = httpx.Response(
    200,
    json={"events": [{"id": "e1", "type": "email.sent", "time": "2026-01-31T09:00:00Z", "response": "250 \x1b[2J Ok"}]},
)
SEND = ("send", "--from", "no-reply@example.com", "--to", "ann@example.org", "--subject", "Hello")


def run(api: FakeApi, *words: str) -> int:
    return main(words, lambda _url: api.client(seconds=0))


def test_send_prints_the_id(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.html").write_text("<p>Grüße</p>")
    api = FakeApi(accepted("7"))
    words = ("--bcc", "c@example.org", "--text", "Hi", "--html", str(tmp_path / "a.html"), "--header", "X-A: b")
    assert run(api, *SEND, *words, "--attach", str(tmp_path / "a.txt"), "--tag", "june", "--tag", "shop") == 0
    assert capsys.readouterr().out == "7\n"
    [body] = api.bodies()
    assert body == {
        "from": "no-reply@example.com",
        "to": ["ann@example.org"],
        "bcc": ["c@example.org"],
        "subject": "Hello",
        "text": "Hi",
        "html": "<p>Grüße</p>",
        "headers": {"X-A": "b"},
        "tags": ["june", "shop"],
        "attachments": [{"filename": "a.txt", "content_type": "text/plain", "content": "eA=="}],
    }


def test_text_comes_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe\n"))
    api = FakeApi(accepted())
    assert run(api, *SEND, "--text", "-", "--json") == 0
    assert next(api.bodies())["text"] == "from a pipe\n"


@pytest.mark.parametrize(("state", "code"), [("sent", 0), ("failed", 1), ("partially_sent", 1), ("cancelled", 1)])
def test_send_and_wait_shows_the_end(capsys: pytest.CaptureFixture[str], state: str, code: int) -> None:
    api = FakeApi(accepted("1"), status(state), TIMELINE)
    assert run(api, *SEND, "--text", "Hi", "--wait") == code
    out = capsys.readouterr().out
    assert out.startswith(f"1\n1  {state}\n  ann@example.org  {state}  250 Ok\n")
    assert out.endswith("2026-01-31 09:00:00  email.sent  250  [2J Ok\n"), "a relay does not write on this terminal"


def test_status_for_machines_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(FakeApi(status("sent"), TIMELINE), "status", "1", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["status"], shown["recipients"][0]["state"], shown["events"][0]["type"]) == (
        "sent",
        "sent",
        "email.sent",
    )


def test_still_on_its_way_is_a_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(FakeApi(status("deferred", complete=False)), "status", "1", "--wait", "0") == 4
    assert "still on its way" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (problem(403, "sender-not-allowed"), 1, "sender-not-allowed"),
        (problem(503, "kafka-unavailable"), 3, "kafka-unavailable"),
        (httpx.ConnectError("refused"), 3, "did not answer"),
    ],
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], answer: httpx.Response | Exception, code: int, words: str
) -> None:
    assert run(FakeApi(answer), *SEND, "--text", "Hi") == code
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", ["--text - --html -", "", "--text x --attach /none", "--text x --header A"])
def test_wrong_usage_sends_nothing(capsys: pytest.CaptureFixture[str], words: str) -> None:
    api = FakeApi(accepted())
    assert run(api, *SEND, *words.split()) == 2
    assert not api.requests
    assert capsys.readouterr().err.startswith("milena: ")


def test_retry_and_cancel(capsys: pytest.CaptureFixture[str]) -> None:
    answer = httpx.Response(202, json={"id": "2", "status": "queued", "retry_of": "1", "recipients": 1})
    assert run(FakeApi(answer), "retry", "1") == 0
    assert capsys.readouterr().out == "2\n"
    assert run(FakeApi(httpx.Response(202, json={"id": "1"})), "cancel", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "cancellation_requested"
    assert run(FakeApi(problem(409, "already-final")), "cancel", "1") == 1


def test_what_waits_is_shown_and_moved(capsys: pytest.CaptureFixture[str]) -> None:
    mail = {"id": "1", "state": "pending", "send_at": "2030-01-31T10:00:00Z"}
    assert run(FakeApi(httpx.Response(200, json={"data": [mail]})), "scheduled", "--state", "pending") == 0
    assert capsys.readouterr().out == "2030-01-31 10:00:00 UTC  pending  1\n"
    api = FakeApi(httpx.Response(200, json=mail))
    assert run(api, "reschedule", "1", "2030-01-31T11:00:00+01:00", "--json") == 0
    assert json.loads(capsys.readouterr().out) == mail
    assert next(api.bodies()) == {"send_at": "2030-01-31T10:00:00Z"}
    assert run(FakeApi(problem(409, "not-scheduled")), "reschedule", "1", "2030-01-31T11:00:00Z") == 1


def test_tail_shows_events_until_it_is_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    def say_and_stop() -> Iterator[bytes]:
        yield b"id: p1\nevent: email.failed\n"
        yield b'data: {"id": "m1", "reason": "rejected"}\n\n'
        raise KeyboardInterrupt

    api = FakeApi(lambda _request: httpx.Response(200, content=say_and_stop()))
    assert run(api, "tail", "--tag", "june", "--mailing", "m") == 130
    assert capsys.readouterr().out.endswith("  email.failed  rejected  m1\n")
    assert dict(api.requests[0].url.params) == {"tag": "june", "mailing_id": "m"}


def test_address_and_key_come_from_the_environment_or_the_local_stack(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="no address"):
        find_configuration(environment={"MILENA_DATA_DIR": str(tmp_path)})
    stack = {"base_url": "http://127.0.0.1:8000", "api_key": "mk_stack", "from_address": "a@example.com"}
    (tmp_path / "stack.json").write_text(json.dumps(stack))
    local = {"MILENA_DATA_DIR": str(tmp_path)}
    found = find_configuration(environment=local)
    assert (found.url, found.api_key, found.from_address) == ("http://127.0.0.1:8000", "mk_stack", "a@example.com")
    with pytest.raises(NotConfigured, match="no API key"):
        find_configuration("https://elsewhere.test", environment=local)  # the stack's key is for the stack alone
    there = {"MILENA_URL": "https://mail.example.com/", "MILENA_API_KEY": "mk_there", **local}
    assert find_configuration(environment=there).url == "https://mail.example.com"
    assert find_configuration("http://given", "mk_given", there).api_key == "mk_given"
    assert "mk_" not in repr(found)


@pytest.mark.parametrize(("url", "key"), [("mail.example.com", "mk_x"), ("http://x", "mk_ü"), ("http://x", "mk_\n")])
def test_a_wrong_configuration_is_told_without_the_key(url: str, key: str) -> None:
    with pytest.raises(NotConfigured) as caught:
        Client(url, key)
    assert key not in str(caught.value)
