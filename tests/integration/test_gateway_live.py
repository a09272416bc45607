"""Live events of a real API process on real Kafka: who hears what, by SSE and WebSocket, resuming, how streams end."""

import asyncio
import contextlib
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import orjson
import psutil
import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from deploy.local.ports import find_free_port
from services.gateway.api import create_api
from services.gateway.settings import ApiSettings
from shared.live import TicketOffice
from shared.serving import ApiServer, configure
from tests.support.gateway import Caller, mint, revoke, serve_gateway
from tests.support.live import Results, listen, make_result, publishing
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess
from tests.support.stack import MASTER_SECRET, Stack


@pytest.fixture(scope="module")
def served(real_servers: RealServers) -> Iterator[tuple[Stack, ServiceProcess]]:
    with serve_gateway(real_servers, "api") as (stack, [process]):
        yield stack, process


@pytest.fixture
def stack(served: tuple[Stack, ServiceProcess]) -> Stack:
    return served[0]


@pytest.fixture
async def api(served: tuple[Stack, ServiceProcess]) -> ServiceProcess:
    """The process; one that a test has stopped is started again."""
    process = served[1]
    if process.returncode is not None:
        process.restart()
        await process.wait_ready(60)
    return process


@pytest.fixture
async def caller(stack: Stack, request: pytest.FixtureRequest) -> Caller:
    return await mint(stack.database_url, account=request.node.name[:60])


@pytest.fixture
async def results(stack: Stack) -> AsyncIterator[Results]:
    async with publishing(stack) as found:
        yield found


async def test_each_account_hears_its_own_events_whole(
    stack: Stack, api: ServiceProcess, caller: Caller, results: Results
) -> None:
    other = await mint(stack.database_url, account="other")
    async with listen(api.url, caller.headers) as mine, listen(api.url, other.headers) as theirs:
        sent = make_result(caller.key.account, metadata={"order": 1})
        failed = make_result(caller.key.account, reason="rejected")
        await results.publish(sent, make_result("other"))
        await mine.wait_for(1)
        await results.publish(failed)
        [(first, first_data), (second, second_data)] = await mine.wait_for(2)
        await theirs.wait_for(1)
        await asyncio.sleep(0.2)
    assert (first, second) == ("email.sent", "email.failed")
    assert len(first_data.pop("ce_id")) == len(second_data.pop("ce_id")) == 36
    assert [first_data, second_data] == [sent, failed]
    assert len(theirs.events) == 1


async def test_filters_hold_together_for_both_ways_to_listen(
    api: ServiceProcess, caller: Caller, results: Results
) -> None:
    account = caller.key.account
    wanted = make_result(account, tags=["order", "eu"], mailing_id="m1", batch_id="b1")
    others = [
        make_result(account, tags=["order"], mailing_id="m2"),
        make_result(account, tags=["other"], mailing_id="m1"),
        make_result(account, tags=["order"], mailing_id="m1", batch_id="b1", reason="rejected"),
    ]
    filters = {"tag": "order", "mailing_id": "m1", "batch_id": "b1", "type": "email.sent"}
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    url = f"ws://127.0.0.1:{api.port}/v1/events?{query}"
    async with (
        listen(api.url, caller.headers, **filters) as one,
        listen(api.url, caller.headers, email_id=wanted["id"]) as other,
        connect(url, additional_headers=caller.headers) as talk,
    ):
        beat = orjson.loads(await talk.recv())
        await results.publish(*others, wanted)
        await asyncio.gather(one.wait_for(1), other.wait_for(1))
        told = orjson.loads(await asyncio.wait_for(talk.recv(), 10))
        await asyncio.sleep(0.2)
    assert one.list_ids() == other.list_ids() == [wanted["id"]] == [told["data"]["id"]]
    assert (beat["type"], told["type"]) == ("heartbeat", "email.sent")
    async with listen(api.url, caller.headers | {"Last-Event-ID": beat["id"]}) as heard:
        await heard.wait_for(4)
    assert set(heard.list_ids()) == {wanted["id"], *(each["id"] for each in others)}
    async with connect(f"{url}&last_event_id={told['id']}", additional_headers=caller.headers) as talk:
        assert orjson.loads(await talk.recv())["type"] == "heartbeat"


async def test_the_answer_is_one_that_nobody_keeps_or_holds_up(api: ServiceProcess, caller: Caller) -> None:
    async with (
        httpx.AsyncClient(base_url=api.url, headers=caller.headers) as client,
        client.stream("GET", "/v1/events") as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
        lines = answer.aiter_lines()
        assert [await anext(lines) for _ in range(3)] == ["retry: 2000", "", ": heartbeat"]


async def test_whoever_may_not_listen_is_told_why(stack: Stack, api: ServiceProcess, caller: Caller) -> None:
    no_reader = await mint(stack.database_url, scopes=(), account="other")
    ended, _ = TicketOffice(MASTER_SECRET, clock=lambda: time.time() - 61).issue(b"d" * 32, "emails:read")
    unknown, _ = TicketOffice(MASTER_SECRET).issue(b"d" * 32, "emails:read")
    foreign, _ = TicketOffice(MASTER_SECRET).issue(b"d" * 32, "tasks:admin")
    cases: list[tuple[str, dict[str, str], int, str]] = [
        ("", {}, 401, "not-authenticated"),
        ("", no_reader.headers, 403, "scope-missing"),
        (f"ticket={ended}", {}, 401, "ticket-invalid"),
        (f"ticket={ended[:-4]}AAAA", {}, 401, "ticket-invalid"),
        (f"ticket={unknown}", {}, 401, "not-authenticated"),
        (f"ticket={foreign}", {}, 403, "scope-missing"),
        ("tags=x", caller.headers, 422, "invalid-content"),
        ("email_id=x", caller.headers, 422, "invalid-content"),
        ("last_event_id=x", caller.headers, 422, "invalid-content"),
        ("", caller.headers | {"Last-Event-ID": "AQEBAQE"}, 422, "invalid-content"),
    ]
    async with httpx.AsyncClient(base_url=api.url) as client:
        for query, headers, status, slug in cases:
            answer = await client.get(f"/v1/events?{query}", headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), query
            with pytest.raises(InvalidStatus) as refused:
                async with connect(f"ws://127.0.0.1:{api.port}/v1/events?{query}", additional_headers=headers):
                    pass
            body = orjson.loads(refused.value.response.body or b"")
            assert (refused.value.response.status_code, body["type"]) == (status, f"/problems/{slug}"), query
        with pytest.raises(InvalidStatus) as refused:
            async with connect(
                f"ws://127.0.0.1:{api.port}/v1/events",
                additional_headers=caller.headers,
                origin=Origin("https://bad.example"),
            ):
                pass
        assert refused.value.response.status_code == 403
        assert (await client.post("/v1/live/tickets", headers=no_reader.headers)).status_code == 403
    assert "lt_" not in api.read_log()


async def test_both_addresses_are_described(api: ServiceProcess) -> None:
    async with httpx.AsyncClient(base_url=api.url) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    stream, ticket = paths["/v1/events"]["get"], paths["/v1/live/tickets"]["post"]
    assert set(stream["responses"]) == {"200", "401", "403", "422", "429", "503"}
    assert "event: email.sent" in stream["responses"]["200"]["content"]["text/event-stream"]["example"]
    names = {each["name"].lower() for each in stream["parameters"]}
    assert names >= {"email_id", "tag", "mailing_id", "batch_id", "type", "ticket", "last-event-id"}
    assert "201" in ticket["responses"]


async def test_a_ticket_stands_for_the_key_it_was_issued_to(
    api: ServiceProcess, caller: Caller, results: Results
) -> None:
    async with httpx.AsyncClient(base_url=api.url) as client:
        answer = await client.post("/v1/live/tickets", headers=caller.headers)
        for scope, status in (("mailings:admin", 403), ("emails:read", 201), ("operate", 422)):
            other = await client.post("/v1/live/tickets", params={"scope": scope}, headers=caller.headers)
            assert other.status_code == status, other.text
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    ticket = answer.json()["ticket"]
    own_origin = Origin(f"http://127.0.0.1:{api.port}")
    url = f"ws://127.0.0.1:{api.port}/v1/events?ticket={ticket}"
    async with listen(api.url, ticket=ticket) as heard, connect(url, origin=own_origin) as talk:
        [published] = await results.publish(make_result(caller.key.account))
        await heard.wait_for(1)
        assert heard.list_ids() == [published]
        assert [orjson.loads(await talk.recv())["type"] for _ in range(2)] == ["heartbeat", "email.sent"]
    assert ticket not in api.read_log()


async def test_streams_end_with_the_process_and_go_on_at_the_next_one(
    api: ServiceProcess, caller: Caller, results: Results
) -> None:
    account = caller.key.account
    url = f"ws://127.0.0.1:{api.port}/v1/events"
    async with listen(api.url, caller.headers) as heard, connect(url, additional_headers=caller.headers) as talk:
        await results.publish(make_result(account))
        await heard.wait_for(1)
        began = time.monotonic()
        api.terminate()
        await heard.wait_end()
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await asyncio.wait_for(talk.recv(), 5)
        assert await api.wait_exit() in (0, -signal.SIGTERM)
        stopped_after_s = time.monotonic() - began
    assert stopped_after_s < 3
    assert heard.events[-1][0] == "closed"
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1012
    missed = await results.publish(*(make_result(account) for _ in range(30)), make_result("other"))
    api.restart()
    await api.wait_ready(60)
    later = []
    async with listen(api.url, caller.headers | {"Last-Event-ID": heard.last_id}) as again:
        await again.wait_for(10)
        middle = again.last_id
        await again.wait_for(30)
        later += await results.publish(make_result(account))
        await again.wait_for(31)
    assert sorted(again.list_ids()) == sorted([*missed[:-1], *later])
    position = again.list_ids()
    async with listen(api.url, caller.headers, last_event_id=middle) as third:
        await third.wait_for(1)
        await asyncio.sleep(0.3)
    assert set(third.list_ids()) < set(position)


async def read_metric(api: ServiceProcess, name: str) -> float:
    async with httpx.AsyncClient(base_url=api.url) as client:
        lines = (await client.get("/metrics")).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(), 20)


async def test_a_reader_that_does_not_keep_up_is_dropped_and_a_revoked_key_hears_no_more(
    stack: Stack, api: ServiceProcess, caller: Caller, results: Results
) -> None:
    account = caller.key.account
    leaving = await mint(stack.database_url, account="other")
    async with listen(api.url, leaving.headers) as last_words:
        await revoke(stack.database_url, leaving)
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", api.port))
            secret = caller.secret.encode()
            slow.sendall(b"GET /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n\r\n" % secret)
            async with listen(api.url, caller.headers) as quick:
                before = psutil.Process(api.pid).memory_info().rss
                many = [make_result(account, metadata={"filler": "x" * 7000}) for _ in range(1200)]
                for start in range(0, 1200, 100):
                    await results.publish(*many[start : start + 100])
                await quick.wait_for(1200, 30)
                async with asyncio.timeout(10):
                    while not await read_metric(api, "milena_live_dropped_total"):
                        await asyncio.sleep(0.05)
                grown = psutil.Process(api.pid).memory_info().rss - before
            assert grown < 30_000_000, "8 MB were published; a stream holds 2 MiB"
            reader, writer = await asyncio.open_connection(sock=slow)
            said = await read_to_end(reader)
            writer.close()
        assert said.count(b"event: email.sent") < 1200
        assert b"event: dropped" in said[-400:]
        last_id = said[: said.rindex(b"\nevent: email.sent")].rpartition(b"id: ")[2].decode()
        got = said.count(b"event: email.sent")
        async with listen(api.url, caller.headers | {"Last-Event-ID": last_id}) as rest:
            await rest.wait_for(1200 - got, 20)
        assert len(rest.events) == 1200 - got
        assert len(set(rest.list_ids())) == 1200 - got
        await last_words.wait_end(12)
    assert last_words.events[-1][0] == "closed"
    assert last_words.events[-1][1]["reason"] == "key"


@contextlib.asynccontextmanager
async def serve_here(stack: Stack, **settings: object) -> AsyncIterator[int]:
    """Another API on the same topics and database, in this process. Gives its port."""
    made = ApiSettings(
        kafka_bootstrap_servers=stack.bootstrap_servers,
        topic_prefix=stack.topic_prefix,
        database_url=stack.database_url,
        http_port=find_free_port(),
        master_secret=MASTER_SECRET,
        **settings,  # type: ignore[arg-type]
    )
    config = configure(create_api(made), made)
    config.load()
    server = ApiServer(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield made.http_port
    finally:
        await server.shutdown()


async def test_another_process_goes_on_from_an_id_over_wss_within_its_history_and_its_bounds(
    stack: Stack, api: ServiceProcess, caller: Caller, results: Results, tmp_path: Path
) -> None:
    authority, account = trustme.CA(), caller.key.account
    issued, trusting = authority.issue_cert("localhost"), ssl.create_default_context()
    authority.configure_trust(trusting)
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    async with listen(api.url, caller.headers) as heard:
        pass
    missed = await results.publish(*(make_result(account) for _ in range(20)))
    options = {"live_history": 1000, "live_streams": 2, "live_streams_per_account": 1}
    async with serve_here(stack, tls_cert=tmp_path / "cert", tls_key=tmp_path / "key", **options) as port:
        url = f"wss://localhost:{port}/v1/events?last_event_id={heard.last_id}"
        async with connect(url, ssl=trusting, additional_headers=caller.headers) as talk:
            told = [orjson.loads(await asyncio.wait_for(talk.recv(), 10)) for _ in range(21)]
            assert sorted(each["data"].get("id", "") for each in told) == sorted(["", *missed])
            assert told[-1]["type"] == "heartbeat"
            async with httpx.AsyncClient(verify=trusting, base_url=f"https://localhost:{port}") as client:
                crowded = await client.get("/v1/events", headers=caller.headers)
        assert (crowded.status_code, crowded.json()["limit"]) == (429, 1)
        assert crowded.headers["retry-after"]
        await results.publish(*(make_result("somebody else") for _ in range(1500)))
        async with connect(url, ssl=trusting, additional_headers=caller.headers) as talk:
            gap = orjson.loads(await asyncio.wait_for(talk.recv(), 10))
        assert gap["type"] == "gap"
        assert gap["data"]["missing_from"].startswith("20")
