"""What the server under every API does with a connection, on real sockets' bytes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h11
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.arrival import Arrival
from shared.serving import HEAD_LIMIT, PatientH11Protocol, create_protocol
from shared.settings import HttpSettings

END = b"\r\n\r\n"
OFFER = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"


async def count_body(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    said = str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
    await send({"type": "http.response.body", "body": said})


@asynccontextmanager
async def connect(
    app: ASGIApp = count_body, receive_timeout_s: float = 20
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    protocol = create_protocol(HttpSettings(http_receive_timeout_s=receive_timeout_s))
    server = uvicorn.Server(
        uvicorn.Config(app, http=protocol, port=0, lifespan="off", log_config=None, access_log=False)
    )
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await server.shutdown()


async def read_answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Status line and body."""
    head = await asyncio.wait_for(reader.readuntil(END), 5)
    lines = head.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
    return head.split(b"\r\n")[0], await reader.readexactly(length)


@pytest.mark.parametrize("beginning", [b"GET / HTTP/1.1\r\nhost: x\r\n", b"GET /"])
async def test_a_head_without_end_is_refused_and_the_connection_closed(beginning: bytes) -> None:
    async with connect() as (reader, writer):
        writer.write(beginning)
        for _ in range(HEAD_LIMIT // 1000 + 1):
            writer.write(b"x" * 998 + (b": " if beginning.endswith(b"\n") else b"xx"))
            await writer.drain()
            await asyncio.sleep(0)
        status, _ = await read_answer(reader)
        assert status == b"HTTP/1.1 400 Bad Request"
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_long_head_within_the_limit_and_bodies_of_any_length_are_read_on_one_connection() -> None:
    async with connect() as (reader, writer):
        for size in (0, 10, 3 * HEAD_LIMIT):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nx-long: %b\r\n" % (b"y" * (HEAD_LIMIT - 200)))
            writer.write(b"content-length: %d%b" % (size, END) + b"z" * size)
            assert await read_answer(reader) == (b"HTTP/1.1 200 OK", b"%d" % size)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked" + END)
        for _ in range(20):
            writer.write(b"2710\r\n" + b"z" * 10_000 + b"\r\n")
        writer.write(b"0" + END)
        assert await read_answer(reader) == (b"HTTP/1.1 200 OK", b"200000")


async def test_a_client_that_offers_http_2_loses_no_body_and_is_served_on() -> None:
    async with connect() as (reader, writer):
        for _ in range(3):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\n" + OFFER + b"content-length: 10" + END + b"hello")
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(b"again")
            assert await read_answer(reader) == (b"HTTP/1.1 200 OK", b"10")


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked",
        b"content-length: 5\r\ncontent-length: 6",
        b"content-length: +5",
        b"transfer-encoding: chunked, x",
    ],
)
async def test_a_body_whose_end_is_a_matter_of_opinion_is_refused(framing: bytes) -> None:
    async with connect() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\n" + framing + END + b"0" + END)
        status, _ = await read_answer(reader)
        assert status == b"HTTP/1.1 400 Bad Request"


async def test_an_answer_leaves_in_one_piece() -> None:
    async with connect() as (reader, writer):
        for body in (b"", b"four"):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d%b%b" % (len(body), END, body))
            said = await asyncio.wait_for(reader.read(100_000), 5)
            assert said.endswith(END + b"%d" % len(body))


async def test_the_last_answer_is_whole_before_the_connection_is_closed() -> None:
    async with connect() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 4" + END + b"four")
        assert (await asyncio.wait_for(reader.read(), 5)).endswith(END + b"4")


@pytest.mark.parametrize(
    "beginning",
    [
        b"POST / HTTP/1.1\r\nhost:",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000" + END,
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked" + END,
        b"POST / HTTP/1.1\r\nhost: x\r\n" + OFFER + b"content-length: 1000" + END,
    ],
    ids=["head", "body", "chunks", "another-protocol"],
)
async def test_a_request_that_does_not_come_whole_is_408_and_the_connection_closed(beginning: bytes) -> None:
    async with connect(receive_timeout_s=0.2) as (reader, writer):
        writer.write(beginning)
        status, body = await read_answer(reader)
        assert status == b"HTTP/1.1 408 Request Timeout"
        assert json.loads(body)["type"] == "/problems/too-slow"
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_byte_now_and_then_gains_no_time() -> None:
    late = asyncio.Event()
    arrival = Arrival(0.1, lambda has_begun: late.set() if has_begun else None)
    began = asyncio.get_running_loop().time()
    while not late.is_set():
        arrival.note(1, is_whole=False)
        await asyncio.sleep(0.01)
    assert 0.1 <= asyncio.get_running_loop().time() - began < 10


async def test_much_at_first_gains_no_time_for_silence() -> None:
    late = asyncio.Event()
    arrival = Arrival(0.1, lambda has_begun: late.set() if has_begun else None)
    arrival.note(10_000_000, is_whole=False)
    await asyncio.wait_for(late.wait(), 10)


async def test_a_body_has_the_time_that_its_handler_takes() -> None:
    async def dawdle(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await asyncio.sleep(0.4)
        await count_body(scope, receive, send)

    async with connect(dawdle, receive_timeout_s=0.1) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000" + END + b"z" * 9_000_000)
        status, body = await read_answer(reader)
        assert status == b"HTTP/1.1 200 OK" and 0 < int(body) < 9_000_000


async def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    async with connect(receive_timeout_s=0.1) as (reader, _):
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_body_that_keeps_coming_has_the_time_it_needs_and_an_idle_connection_stays() -> None:
    async with connect(receive_timeout_s=0.1) as (reader, writer):
        for _ in range(2):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000" + END)
            for _ in range(10):
                await asyncio.sleep(0.03)
                writer.write(b"z" * 10_000)
            assert await read_answer(reader) == (b"HTTP/1.1 200 OK", b"100000")
            await asyncio.sleep(0.15)


async def test_a_connection_that_became_a_websocket_is_not_waited_for() -> None:
    class Quiet(asyncio.Protocol):
        def __init__(self, **_: object) -> None:
            pass

    config = uvicorn.Config(count_body, lifespan="off", log_config=None)
    config.load()
    config.ws_protocol_class = Quiet
    server = uvicorn.Server(config)
    protocol = PatientH11Protocol(config, server.server_state, {}, receive_timeout_s=0.05)
    closed = asyncio.Event()

    class Wire(asyncio.Transport):
        def close(self) -> None:
            closed.set()

        def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
            pass

    protocol.connection_made(Wire())
    protocol.data_received(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket" + END)
    await asyncio.sleep(0.15)
    assert not closed.is_set()
    assert protocol.conn.their_state is not h11.ERROR
