"""What is refused when there is too much at work, and what is not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from shared.metrics import REQUESTS_SHED
from shared.settings import HttpSettings
from shared.shedding import STREAMED, UNREAD
from shared.web import setup_web


class Api:
    """Posts to /hold are read, and answered once `open` is set."""

    def __init__(self, **settings: Any) -> None:
        self.open = asyncio.Event()
        self.reading = 0
        self.app = FastAPI()
        setup_web(
            self.app,
            HttpSettings(**settings),
            {},
            body_limit=10**7,
            hot_posts={"/hold": self.hold, "/upload": self.hold},
            streamed=("/upload",),
        )
        self.app.get("/stream")(self.stream)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://test")

    async def hold(self, request: Request) -> Response:
        self.reading += 1
        size = len(await request.body())
        await self.open.wait()
        return Response(str(size))

    async def stream(self) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"first"
            await self.open.wait()

        return StreamingResponse(pieces())

    @contextmanager
    def posting(self, *sizes: int) -> Iterator[list["asyncio.Task[httpx.Response]"]]:
        yield [asyncio.create_task(self.client.post("/hold", content=b"x" * size)) for size in sizes]

    async def settle(self, reading: int) -> None:
        async with asyncio.timeout(5):
            while self.reading < reading:
                await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)


def check_shed(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/overloaded"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert int(answer.headers["retry-after"]) > 0


async def test_a_request_too_many_is_503_and_the_next_is_served_when_one_has_gone() -> None:
    api = Api(http_requests_in_flight=2)
    before = REQUESTS_SHED.labels(why="requests")._value.get()
    with api.posting(1, 2) as tasks:
        await api.settle(2)
        check_shed(await api.client.post("/hold", content=b"x"))
        assert REQUESTS_SHED.labels(why="requests")._value.get() == before + 1
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await api.client.get(path)).status_code == 200
        api.open.set()
        assert [(await task).text for task in tasks] == ["1", "2"]
        assert (await api.client.post("/hold", content=b"xxx")).text == "3"


async def test_a_body_for_which_there_is_no_room_is_refused_before_it_is_read() -> None:
    api = Api(http_bytes_in_flight=500_000)
    with api.posting(300_000) as tasks:
        await api.settle(1)
        check_shed(await api.client.post("/hold", content=b"x" * 300_000))
        assert api.reading == 1
        with api.posting(10_000) as small:
            await api.settle(2)
            api.open.set()
            assert [(await task).text for task in (*tasks, *small)] == ["300000", "10000"]


async def test_a_body_that_grows_beyond_the_room_is_refused_and_others_go_on() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 10_000

    api = Api(http_bytes_in_flight=500_000)
    with api.posting(300_000) as tasks:
        await api.settle(1)
        check_shed(await api.client.post("/hold", content=chunks()))
        api.open.set()
        assert (await tasks[0]).text == "300000"


async def test_a_body_alone_is_taken_however_large() -> None:
    api = Api(http_bytes_in_flight=UNREAD)
    with api.posting(0, 10**6, 0) as tasks:
        await api.settle(3)
        api.open.set()
        assert [(await task).text for task in tasks] == ["0", "1000000", "0"]


async def test_what_is_declared_and_does_not_come_takes_no_room() -> None:
    api = Api(http_bytes_in_flight=1_200_000)
    never = asyncio.Event()

    async def nothing() -> AsyncIterator[bytes]:
        yield b"x"
        await never.wait()

    slow = [
        asyncio.create_task(api.client.post("/hold", content=nothing(), headers={"content-length": "900000"}))
        for _ in range(3)
    ]
    await api.settle(3)
    api.open.set()
    assert (await api.client.post("/hold", content=b"x" * 500_000)).text == "500000"
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


async def test_a_stream_counts_only_until_it_begins() -> None:
    api = Api(http_requests_in_flight=1)
    begun = asyncio.Event()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            begun.set()

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    scope = {"type": "http", "method": "GET", "path": "/stream", "headers": [], "client": ("127.0.0.1", 1)}
    scope |= {"query_string": b"", "raw_path": b"/stream", "root_path": "", "http_version": "1.1", "scheme": "http"}
    stream = asyncio.create_task(api.app(scope, receive, send))  # type: ignore[arg-type]
    await asyncio.wait_for(begun.wait(), 5)
    api.open.set()
    assert (await api.client.post("/hold", content=b"x")).text == "1"
    await stream


async def test_a_body_that_is_worked_on_as_it_comes_leaves_room_for_others() -> None:
    api = Api(http_bytes_in_flight=STREAMED + 1_000_000)
    upload = asyncio.create_task(api.client.post("/upload", content=b"x" * 9_000_000))
    await api.settle(1)
    with api.posting(500_000, 600_000) as [one, other]:
        check_shed(await other)
        api.open.set()
        assert ((await upload).text, (await one).text) == ("9000000", "500000")
