"""TLS, WebSockets and long answers under every API: what the server does, on real sockets."""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trustme
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from shared import serving
from shared.serving import ApiServer, configure, find_stopping
from shared.settings import HttpSettings, load_settings


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def pair(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The two variables, for a certificate of localhost."""
    directory, issued = tmp_path_factory.mktemp("tls"), authority.issue_cert("localhost")
    cert, key = directory / "cert.pem", directory / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return {"MILENA_TLS_CERT": str(cert), "MILENA_TLS_KEY": str(key)}


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def start_with(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> HttpSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings(HttpSettings)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Tells the scheme; on /flood writes until nobody takes it or the process is to stop. A WebSocket echoes."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": f"{scope['scheme']} {message['text']}"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    stopping = find_stopping(scope)
    assert stopping
    while scope["path"] == "/flood" and not stopping.is_set():
        await send({"type": "http.response.body", "body": b"x" * 60_000, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})


@asynccontextmanager
async def serve(settings: HttpSettings) -> AsyncIterator[tuple[int, ApiServer]]:
    config = configure(answer, settings.model_copy(update={"http_port": 0}), lifespan="off")
    config.load()
    server = ApiServer(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1], server
    finally:
        await server.shutdown()


async def test_with_a_certificate_an_api_speaks_https_and_wss(
    pair: dict[str, str], trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = start_with(pair, monkeypatch)
    assert settings.scheme == "https"
    async with serve(settings) as (port, _):
        async with httpx.AsyncClient(verify=trusting) as client:
            assert (await client.get(f"https://localhost:{port}/")).text == "https"
        async with connect(f"wss://localhost:{port}/", ssl=trusting) as talk:
            await talk.send("hello")
            assert await talk.recv() == "wss hello"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://localhost:{port}/")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"MILENA_TLS_KEY": ""}, "MILENA_TLS_KEY: needed with MILENA_TLS_CERT"),
        ({"MILENA_TLS_CERT": ""}, "MILENA_TLS_CERT: needed with MILENA_TLS_KEY"),
        ({"MILENA_TLS_CERT": "/nowhere.pem"}, "MILENA_TLS_CERT: cannot be read (No such file or directory)"),
        ({"MILENA_TLS_KEY": "/"}, "MILENA_TLS_KEY: cannot be read (Is a directory)"),
        ({"MILENA_TLS_CERT": "{junk}"}, "MILENA_TLS_CERT: is no certificate in PEM"),
        ({"MILENA_TLS_KEY": "{junk}"}, "MILENA_TLS_KEY: is no key in PEM without a passphrase"),
        ({"MILENA_TLS_KEY": "{other}"}, "MILENA_TLS_KEY: is not the key of the certificate in MILENA_TLS_CERT"),
    ],
)
def test_a_pair_that_will_not_do_ends_the_start_with_the_name_of_the_variable(
    change: dict[str, str],
    named: str,
    pair: dict[str, str],
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "junk").write_text("-----BEGIN NOTHING-----\n")
    (tmp_path / "other").write_bytes(authority.issue_cert("localhost").private_key_pem.bytes())
    files = {"junk": str(tmp_path / "junk"), "other": str(tmp_path / "other")}
    with pytest.raises(SystemExit):
        start_with(pair | {name: value.format(**files) for name, value in change.items()}, monkeypatch)
    assert capsys.readouterr().err == f"{named}\n"


@pytest.mark.parametrize("origin", ["https://a.example/path", "*", "a.example", "null", "https://"])
def test_what_is_no_origin_ends_the_start(
    origin: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        start_with({"MILENA_ALLOWED_ORIGINS": f"https://b.example,{origin}"}, monkeypatch)
    assert capsys.readouterr().err.startswith("MILENA_ALLOWED_ORIGINS: ")


async def test_a_websocket_is_opened_and_its_query_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "uvicorn"):
        async with serve(HttpSettings()) as (port, _), connect(f"ws://localhost:{port}/?ticket=lt_secret") as talk:
            await talk.send("hello")
            assert await talk.recv() == "ws hello"
            await talk.send("x" * (serving.MESSAGE_LIMIT + 1))
            with pytest.raises(ConnectionClosed) as closed:
                await talk.recv()
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1009
    assert not [record for record in caplog.records if "lt_secret" in record.getMessage()]


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A caller's end with room for little."""
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.setblocking(False)
        yield caller


async def ask_for_flood(caller: socket.socket, port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(caller, ("127.0.0.1", port))
    await loop.sock_sendall(caller, b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
    await asyncio.sleep(0.2)


async def test_a_caller_who_takes_nothing_is_cut_off(stuck: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "STALLED_S", 0.3)
    async with serve(HttpSettings()) as (port, server):
        await ask_for_flood(stuck, port)
        assert server.server_state.connections
        async with asyncio.timeout(5):
            while server.server_state.connections:
                await asyncio.sleep(0.05)


async def test_a_caller_who_takes_nothing_does_not_hold_up_the_stop(stuck: socket.socket) -> None:
    async with serve(HttpSettings()) as (port, _):
        await ask_for_flood(stuck, port)
        began = time.monotonic()
    assert time.monotonic() - began < 3


async def test_an_answer_without_end_learns_that_the_process_is_to_stop() -> None:
    async with serve(HttpSettings()) as (port, server), httpx.AsyncClient() as client:
        async with client.stream("GET", f"http://localhost:{port}/flood") as flood:
            pieces = flood.aiter_raw()
            await anext(pieces)
            stopping = asyncio.create_task(server.shutdown())
            async with asyncio.timeout(5):
                last = [piece async for piece in pieces][-1]
        await stopping
    assert last.endswith(b"http")


async def test_a_caller_who_reads_slowly_is_served_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "STALLED_S", 0.5)
    async with serve(HttpSettings()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
        writer.write(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
        read, until = 0, time.monotonic() + 1.2
        while time.monotonic() < until:
            read += len(await asyncio.wait_for(reader.read(4_000_000), 5))
            await asyncio.sleep(0.0005)
        assert read > 1_000_000
        writer.transport.abort()
