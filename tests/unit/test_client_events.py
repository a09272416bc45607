"""The account's events reach a reader in order, and go on where they were after a break."""

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Any

import httpx
import pytest

import milena
from milena import Event
from milena.events import Subscription
from milena.retrying import Patience
from tests.support.milena_api import FakeApi, problem


def stream(text: str) -> httpx.Response:
    return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})


def say(number: int) -> str:
    return f'id: p-{number}\nevent: email.sent\ndata: {{"id": "m{number}",\ndata: "ce_id": "e{number}"}}\n\n'


def take_sync(api: FakeApi, count: int, **options: Any) -> list[Event]:
    with api.client() as client:
        return list(islice(client.events(**options), count))


def take_async(api: FakeApi, count: int, **options: Any) -> list[Event]:
    async def run() -> list[Event]:
        found: list[Event] = []
        async with api.async_client() as client:
            async for event in client.events(**options):
                found.append(event)
                if len(found) == count:
                    break
        return found

    return asyncio.run(run())


Take = Callable[..., list[Event]]


@pytest.fixture(params=[take_sync, take_async], ids=["sync", "async"])
def take(request: pytest.FixtureRequest) -> Take:
    chosen: Take = request.param
    return chosen


def test_events_are_read_and_filters_handed_on(take: Take) -> None:
    api = FakeApi(stream(": hello\n\n" + say(1)))
    [event] = take(api, 1, tag="june", last_event_id="p-0")
    assert (event.id, event.type, event.email_id, event.position) == ("e1", "email.sent", "m1", "p-1")
    [request] = api.requests
    assert dict(request.url.params) == {"tag": "june"}
    assert request.headers["last-event-id"] == "p-0"
    assert request.headers["accept"] == "text/event-stream"


def test_a_broken_stream_goes_on_behind_the_last_whole_event(take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = stream(say(1) + "id: p-2\ndata: {")
    api = FakeApi(cut, httpx.ReadError("reset"), problem(503, "unavailable"), stream(say(2))).pass_time(monkeypatch)
    assert [event.id for event in take(api, 2)] == ["e1", "e2"]
    assert [request.headers.get("last-event-id") for request in api.requests] == [None, "p-1", "p-1", "p-1"]
    assert api.clock.pauses == sorted(api.clock.pauses)


def test_a_position_without_an_event_is_kept_too(take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi(stream(say(1) + "id: p-9\n\n"), stream(say(2))).pass_time(monkeypatch)
    take(api, 2)
    assert api.requests[1].headers["last-event-id"] == "p-9"


def test_a_refusal_ends_the_stream(take: Take) -> None:
    with pytest.raises(milena.ScopeMissing):
        take(FakeApi(problem(403, "scope-missing")), 1)


def test_a_server_that_asks_for_a_pause_gets_it(take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi(stream("retry: 1500\n" + say(1)), stream(say(2))).pass_time(monkeypatch)
    take(api, 2)
    assert api.clock.pauses == [1.5]


@pytest.mark.parametrize(
    "data", ["data: no json\n\n", "data: [1]\n\n", "event: x\n\n", "event: heartbeat\ndata: {}\n\n", ":\n\n", "\n"]
)
def test_what_is_no_event_is_passed_over(data: str) -> None:
    subscription = Subscription({}, Patience())
    assert list(subscription.feed(data.encode())) == []
    [event] = subscription.feed(b'data:{"type": "email.failed"}\n\n')
    assert event.type == "email.failed"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_lines_may_end_and_arrive_in_any_way(end: str, size: int) -> None:
    words = "a relay's words\u2028\x85 in two lines"
    text = f'{say(1)}event: email.failed\ndata: {{"response": "{words}"}}\n\n: last\n'.replace("\n", end).encode()
    subscription = Subscription({}, Patience())
    found = [event for at in range(0, len(text), size) for event in subscription.feed(text[at : at + size])]
    assert [event.type for event in found] == ["email.sent", "email.failed"]
    assert found[1].data["response"] == words
    assert subscription.last_id == "p-1"
