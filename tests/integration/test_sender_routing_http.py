"""A relay of kind `http` against a real server on the loopback interface: what it is asked, what its answers mean."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from aiohttp import web

from services.sender.breaker import BreakerPolicy, Gate
from services.sender.conversation import Timeouts
from services.sender.http_api import HttpAddress, read_retry_after
from services.sender.http_relay import connect_http
from services.sender.parcel import Ending, Parcel
from services.sender.relay import Relay

CONTENT = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@x.org>\r\nTo: Ann <ann@y.org>, bob@y.org\r\nCc: c@y.org\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@x.org>\r\n\r\n..hidden\r\nend\r\n"
)
Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass
class Api:
    """A provider: answers as told, remembers what it was asked."""

    answer: Handler
    asked: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    port: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((dict(request.headers), json.loads(await request.read())))
        return await self.answer(request)


@asynccontextmanager
async def run_api(answer: Handler) -> AsyncIterator[Api]:
    api = Api(answer)
    app = web.Application()
    app.router.add_post("/send", api.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.port = runner.addresses[0][1]
    try:
        yield api
    finally:
        await runner.cleanup()


def respond(status: int, text: str = "", **headers: str) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=text, headers=headers)

    return answer


class Sending:
    def __init__(self, port: int, timeout_s: float) -> None:
        self.done: list[Parcel] = []
        self.returned: list[Parcel] = []
        self.relay = Relay(
            HttpAddress("api", f"http://127.0.0.1:{port}/send", "s3cret", timeout_s=timeout_s),
            lambda address: connect_http(address, lambda parcel: f"key-{parcel.context}"),
            connections=2,
            timeouts=Timeouts(idle_s=30),
            on_returned=self.returned.extend,
            breaker=BreakerPolicy(retry_s=0.02, first_probe_s=0.1, last_probe_s=0.1, operators_probe_s=0.1),
        )

    def submit(self, *, allowed: bool = True, context: int = 1) -> None:
        recipients = [b"ann@y.org", b"hidden@y.org"]
        self.relay.submit([Parcel(b"bounce@x.org", recipients, CONTENT, lambda: allowed, self.done.append, context)])

    async def wait_done(self, count: int = 1) -> Parcel:
        async with asyncio.timeout(5):
            while len(self.done) < count:
                await asyncio.sleep(0.01)
        return self.done[-1]


@asynccontextmanager
async def send_to(port: int, timeout_s: float = 5.0) -> AsyncIterator[Sending]:
    sending = Sending(port, timeout_s)
    await sending.relay.start()
    try:
        yield sending
    finally:
        await sending.relay.stop()
        await asyncio.sleep(0.1)


async def test_the_whole_mail_goes_out_as_json_and_a_2xx_is_sent() -> None:
    async with run_api(respond(202, '{"id": "p-1"}')) as api, send_to(api.port) as sending:
        for context in range(5):
            sending.submit(context=context)
        parcel = await sending.wait_done(5)
    headers, body = api.asked[0]
    assert headers["Authorization"] == "Bearer s3cret"
    assert {asked["Idempotency-Key"] for asked, _ in api.asked} == {f"key-{number}" for number in range(5)}
    raw = base64.b64decode(body.pop("raw"))
    assert message_from_bytes(raw, policy=default).get_content() == ".hidden\nend\n".replace("\n", "\r\n")
    assert body == {
        "from": "Jürgen <j@x.org>",
        "to": ["Ann <ann@y.org>", "bob@y.org"],
        "cc": ["c@y.org"],
        "subject": "Grüße",
        "message_id": "<1@x.org>",
        "envelope": {"from": "bounce@x.org", "to": ["ann@y.org", "hidden@y.org"]},
    }
    assert (parcel.ending, parcel.content_answered) == (Ending.ANSWERED, True)
    assert [str(reply) for reply in parcel.replies] == ['250 2.0.0 HTTP 202 {"id": "p-1"}'] * 2


@pytest.mark.parametrize(
    ("status", "reply"),
    [
        (422, "550 5.6.0 HTTP 422 no such address"),
        (429, "451 4.7.28 HTTP 429 no such address"),
        (500, "451 4.3.0 HTTP 500 no such address"),
        (503, "451 4.3.2 HTTP 503 no such address"),
    ],
)
async def test_a_status_becomes_the_nearest_reply(status: int, reply: str) -> None:
    async with run_api(respond(status, "no such address")) as api, send_to(api.port) as sending:
        sending.submit()
        parcel = await sending.wait_done()
    assert parcel.content_answered
    assert str(parcel.replies[0]) == reply


@pytest.mark.parametrize(("status", "setting"), [(401, "token"), (403, "token"), (404, "url"), (302, "url")])
async def test_a_wrong_token_or_url_is_the_operators_and_burns_nothing(status: int, setting: str) -> None:
    async with run_api(respond(status, Location="/elsewhere")) as api, send_to(api.port) as sending:
        sending.submit()
        async with asyncio.timeout(5):
            while not sending.returned:
                await asyncio.sleep(0.01)
        assert sending.done == []
        assert f"{setting} of relay 'api' in MILENA_RELAYS" in (sending.relay.describe_fault() or "")
        assert "s3cret" not in repr([sending.relay.address, sending.relay.last_error])
        api.answer = respond(200)
        async with asyncio.timeout(5):
            while sending.relay.breaker.gate is Gate.OPEN:
                await asyncio.sleep(0.01)
        sending.submit()
        assert (await sending.wait_done()).content_answered


async def test_no_answer_after_the_mail_was_written_is_unknown_and_before_it_is_not() -> None:
    async def hang(request: web.Request) -> web.Response:
        await asyncio.sleep(2)
        return web.Response()

    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport
        request.transport.abort()
        return web.Response()

    async with run_api(hang) as api, send_to(api.port, timeout_s=0.3) as sending:
        sending.submit()
        assert (await sending.wait_done()).ending is Ending.UNANSWERED
        api.answer = hang_up
        sending.submit()
        assert (await sending.wait_done(2)).ending is Ending.UNANSWERED
        sending.submit(allowed=False)
        assert (await sending.wait_done(3)).ending is Ending.FORBIDDEN
    async with send_to(api.port) as sending:  # nobody listens there any more
        sending.submit()
        async with asyncio.timeout(5):
            while not sending.returned:
                await asyncio.sleep(0.01)
        assert sending.done == []


async def test_an_api_that_is_away_opens_the_breaker() -> None:
    async with run_api(respond(503)) as api, send_to(api.port) as sending:
        for _ in range(8):
            sending.submit()
        await sending.wait_done(5)
        assert not sending.relay.available or sending.relay.breaker.gate is Gate.TRIAL


@pytest.mark.parametrize("status", [429, 503])
async def test_a_pause_that_an_api_asks_for_is_kept(status: int) -> None:
    async with run_api(respond(status, **{"Retry-After": "1"})) as api, send_to(api.port) as sending:
        sending.submit()
        await sending.wait_done()
        began = time.monotonic()
        assert not sending.relay.available
        assert sending.relay.capacity == 0
        assert "takes no mail for now: it asked for no mail for 1 s: 451" in (sending.relay.describe_fault() or "")
        sending.submit()
        assert len(sending.returned) == 1, "nothing waits for it here"
        api.answer = respond(200)
        async with asyncio.timeout(5):
            while not sending.relay.available:
                await asyncio.sleep(0.01)
        assert time.monotonic() - began > 0.9
        assert len(api.asked) == 1
        sending.submit()
        assert (await sending.wait_done(2)).content_answered
        assert sending.relay.describe_fault() is None
        assert sending.relay.last_error is None


NOW = datetime(2026, 11, 21, 22, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("86400", 300),
        ("9" * 400, 300),
        ("Sat, 21 Nov 2026 22:00:30 GMT", 30),
        ("Sat, 21 Nov 2026 22:00:30", 30),
        ("Sat, 21 Nov 2026 21:00:00 GMT", 0),
        ("Sat, 21 Nov 2099 21:00:00 GMT", 300),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_within_bounds(text: str | None, seconds: float | None) -> None:
    assert read_retry_after(text, NOW) == seconds


async def test_a_mail_that_cannot_be_put_into_a_request_is_told_of_and_holds_nobody_up() -> None:
    async with run_api(respond(200)) as api, send_to(api.port) as sending:
        sending.submit()
        await sending.wait_done()
        sending.relay.submit([Parcel(b"\xff@x.org", [b"ann@y.org"], CONTENT, lambda: True, sending.done.append, 1)])
        broken = await sending.wait_done(2)
        assert (broken.ending, broken.diagnostic) == (Ending.INTERRUPTED, "internal error: UnicodeDecodeError")
        sending.submit()
        assert (await sending.wait_done(3)).content_answered
    assert len(api.asked) == 2
