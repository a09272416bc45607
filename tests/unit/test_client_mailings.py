"""Contacts, lists and mailings through the client: what is asked, what is asked again, and how one is followed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from inspect import isasyncgen
from pathlib import Path
from typing import Any

import httpx
import pytest

from milena import ConnectionFailed, NotAllowed, NotFound
from tests.support.milena_api import FakeApi, problem
from tests.unit.test_client_sending import Run, run_async, run_sync


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    act: Run = request.param
    return act


def collect(found: Iterator[Any] | AsyncIterator[Any]) -> Any:
    """All of it; for asyncio, what gives that."""

    async def take(stream: AsyncIterator[Any]) -> list[Any]:
        return [each async for each in stream]

    return take(found) if isasyncgen(found) else list(found)  # type: ignore[arg-type]


def show(state: str, percent: float | None = None) -> dict[str, Any]:
    progress = {} if percent is None else {"percent": percent, "rate": 5.0}
    ended = {"finished_at": "2026-01-31T09:00:00Z"} if state in ("finished", "cancelled") else {}
    return {"id": "m1", "name": "Spring", "state": state, "counts": {"success": 1}, "progress": progress} | ended


def reply(document: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=document)


def upload(rows: Any, client: Any) -> Any:
    return client.contacts.upload(rows, name="July")


def tell(number: int, document: dict[str, Any]) -> str:
    kind = "finished" if "finished_at" in document else "progress"
    return f"id: p{number}\nevent: mailing.{kind}\ndata: {json.dumps(document)}\n\n"


def stream(*messages: str) -> httpx.Response:
    return httpx.Response(200, text="".join(messages), headers={"content-type": "text/event-stream"})


def test_a_mailing_is_written_as_the_api_takes_it(run: Run) -> None:
    api = FakeApi(reply(show("draft"), 201))
    mailing = run(
        api,
        lambda client: client.mailings.create(
            name="Spring",
            content={"from_": "a@example.com", "subject": "s", "text": "t"},
            audience={"tags": {"any": ["x"]}},
            start_at=datetime(2030, 1, 31, 9, tzinfo=UTC),
            hours={"from_": "09:00", "to": "18:00"},
        ),
    )
    assert (mailing.id, mailing.state, mailing.percent, mailing.is_over) == ("m1", "draft", None, False)
    [body] = api.bodies()
    assert body == {
        "name": "Spring",
        "content": {"from": "a@example.com", "subject": "s", "text": "t"},
        "audience": {"tags": {"any": ["x"]}},
        "start_at": "2030-01-31T09:00:00Z",
        "hours": {"from": "09:00", "to": "18:00"},
    }


ONCE: list[Callable[[Any], Any]] = [
    lambda client: client.mailings.create(name="x"),
    lambda client: client.mailings.retry("m1"),
    lambda client: client.lists.upload([{"address": "a@example.org"}]),
]
AGAIN: list[Callable[[Any], Any]] = [
    lambda client: client.mailings.start("m1"),
    lambda client: client.mailings.cancel("m1"),
    lambda client: client.mailings.change("m1", rate=None),
    lambda client: client.contacts.put("a@example.org", name="Ann"),
    lambda client: client.contacts.erase("c1"),
    lambda client: client.contacts.upload([{"address": "a@example.org"}]),
]


@pytest.mark.parametrize("act", ONCE)
def test_what_would_be_done_twice_is_asked_once_where_no_answer_came(
    run: Run, act: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = FakeApi(httpx.ReadTimeout("lost"), reply(show("draft"))).pass_time(monkeypatch)
    with pytest.raises(ConnectionFailed):
        run(api, act)
    assert len(api.requests) == 1
    api = FakeApi(problem(429, "rate-limited", retry_after="1"), reply(show("draft"))).pass_time(monkeypatch)
    run(api, act)
    assert len(api.requests) == 2


@pytest.mark.parametrize("act", AGAIN)
def test_what_may_be_done_twice_is_asked_again(
    run: Run, act: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = FakeApi(httpx.ReadTimeout("lost"), reply(show("running"))).pass_time(monkeypatch)
    run(api, act)
    first, second = api.requests
    assert first.content == second.content


def test_rows_are_uploaded_from_a_file_from_bytes_or_one_by_one(run: Run, tmp_path: Path) -> None:
    rows = [{"address": "ann@example.org", "tags": ["x"]}, {"address": "böb@example.org"}]
    (tmp_path / "a.csv").write_bytes(b"address\nann@example.org\n")
    (tmp_path / "a.jsonl").write_bytes(b'{"address":"ann@example.org"}\n')
    api = FakeApi(reply({"id": "i1", "problems": []}))
    for given in (rows, b"address\n", str(tmp_path / "a.csv"), tmp_path / "a.jsonl"):
        act: Callable[[Any], Any] = partial(upload, given)
        run(api, act)
    assert [request.headers["content-type"] for request in api.requests] == [
        "application/x-ndjson",
        "text/csv",
        "text/csv",
        "application/x-ndjson",
    ]
    assert [json.loads(line) for line in api.requests[0].content.splitlines()] == rows
    assert {str(request.url) for request in api.requests} == {"http://milena.test/v1/contacts/import?name=July"}


def test_lists_are_read_page_by_page_to_their_end(run: Run) -> None:
    api = FakeApi(reply({"data": [{"n": 1}, {"n": 2}], "next": "c"}), reply({"data": [{"n": 3}], "next": None}))
    found = run(api, lambda client: collect(client.mailings.recipients("m1", state="fail")))
    assert [each["n"] for each in found] == [1, 2, 3]
    assert [dict(request.url.params) for request in api.requests] == [
        {"state": "fail", "limit": "1000"},
        {"state": "fail", "limit": "1000", "after": "c"},
    ]
    api = FakeApi(reply({"data": []}))
    assert run(api, lambda client: collect(client.contacts.iterate(tags=["a", "b"], attributes={"n": 1}))) == []
    assert api.requests[0].url.params.get_list("tag") == ["a", "b"]
    assert api.requests[0].url.params["attribute"] == "n:1"
    assert run(api, lambda client: client.contacts.find("x@example.org")) is None
    api = FakeApi(
        reply({"total": {"sent": 2}, "data": [1], "next": "c"}), reply({"total": {}, "data": [2], "next": None})
    )
    assert run(api, lambda client: client.mailings.stats()) == {"total": {"sent": 2}, "data": [1, 2]}


def test_an_export_comes_in_pieces_and_a_refusal_or_a_cut_is_told(run: Run) -> None:
    api = FakeApi(httpx.Response(200, content=b"address\r\nann@example.org\r\n"), problem(403, "scope-missing"))
    act: Callable[[Any], Any] = lambda client: collect(client.contacts.export())  # noqa: E731
    assert b"".join(run(api, act)) == b"address\r\nann@example.org\r\n"
    with pytest.raises(NotAllowed):
        run(api, act)
    with pytest.raises(ConnectionFailed):
        run(FakeApi(httpx.ReadError("cut")), act)


def test_a_mailing_is_followed_to_its_end_through_breaks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi(
        stream("retry: 10\n\n", tell(1, show("running")), tell(2, show("running", 40.0)), "id: p3\ndata: {"),
        httpx.ReadError("reset"),
        stream(tell(3, show("running", 80.0)), tell(4, show("finished", 100.0)), tell(5, show("running", 1.0))),
    ).pass_time(monkeypatch)
    found = run(api, lambda client: collect(client.mailings.follow("m1")))
    assert [(each.state, each.percent) for each in found] == [
        ("running", None),
        ("running", 40.0),
        ("running", 80.0),
        ("finished", 100.0),
    ]
    assert [request.headers.get("last-event-id") for request in api.requests] == [None, "p2", "p2"]
    assert {request.url.path for request in api.requests} == {"/v1/mailings/m1/events"}
    with pytest.raises(NotFound):
        run(FakeApi(problem(404, "not-found")), lambda client: collect(client.mailings.follow("m1")))


def test_a_mailing_is_waited_for_until_every_mail_has_its_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi(reply(show("running", 10.0)), reply(show("running", 99.9)), reply(show("finished", 100.0)))
    mailing = run(api.pass_time(monkeypatch), lambda client: client.mailings.wait("m1"))
    assert (mailing.is_over, mailing.rate, len(api.requests)) == (True, 5.0, 3)
    late = FakeApi(reply(show("paused", 10.0))).pass_time(monkeypatch)
    assert not run(late, lambda client: client.mailings.wait("m1", timeout=3)).is_over


def test_a_test_is_sent_once_however_often_it_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi(httpx.ReadError("lost"), reply({"data": [{"address": "me@example.com", "id": "7"}]}, 202))
    ids = run(
        api.pass_time(monkeypatch), lambda client: client.mailings.test("m1", ["me@example.com"], address="a@b.c")
    )
    first, again = api.requests
    assert ids == ["7"]
    assert first.headers["idempotency-key"] == again.headers["idempotency-key"]
    assert json.loads(first.content) == {"to": ["me@example.com"], "address": "a@b.c"}


def test_both_clients_offer_the_same() -> None:
    api = FakeApi(reply({}))
    client, other = api.client(), api.async_client()
    for room in ("contacts", "lists", "mailings"):
        names = [{name for name in dir(getattr(each, room)) if name[0] != "_"} for each in (client, other)]
        assert names[0] == names[1]
    client.close()
    asyncio.run(other.aclose())
