"""One API with small limits: what is answered beyond each, and that nothing refused reaches Kafka."""

import asyncio
import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from shared.access import ApiScope
from tests.support.gateway import FULL, SIMPLE, Caller, mint, read_requests, serve_gateway
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess
from tests.support.stack import Stack

ENV = {
    "MILENA_REQUEST_RATE": "100",
    "MILENA_MAIL_RATE": "0.1",
    "MILENA_RATE_WINDOW_S": "20",
    "MILENA_ATTACHMENT_COUNT": "3",
    "MILENA_ATTACHMENT_BYTES": "1000",
    "MILENA_ATTACHMENT_BYTES_TOTAL": "1500",
    "MILENA_REFUSED_ATTACHMENTS": ".exe, text/javascript",
    "MILENA_HTTP_RECEIVE_TIMEOUT_S": "0.5",
}


@dataclass(frozen=True)
class Api:
    stack: Stack
    process: ServiceProcess


@pytest.fixture(scope="module")
def api(real_servers: RealServers) -> Iterator[Api]:
    with serve_gateway(real_servers, "api", env=ENV) as (stack, (process,)):
        yield Api(stack, process)


def connect(api: Api, caller: Caller) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=api.process.url, headers=caller.headers, timeout=30)


def check_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["type"]) == (status, f"/problems/{slug}"), answer.text
    return document


def read_left(answer: httpx.Response, policy: str) -> int:
    return int(answer.headers["ratelimit"].partition(f'"{policy}";r=')[2].partition(";")[0])


async def test_mails_beyond_the_rate_are_429_and_no_mail_of_theirs_lies_in_kafka(api: Api) -> None:
    caller = await mint(api.stack.database_url)
    async with connect(api, caller) as client:
        answers = [await client.post("/v1/emails", json=FULL)]
        answers += [await client.post("/email/", json={**SIMPLE, "token": caller.secret}) for _ in range(2)]
        read = await client.get("/v1/emails/01900000-0000-7000-8000-000000000000")
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"requests";q=2000;w=20, "mails";q=2;w=20'}
    assert [read_left(answer, "mails") for answer in answers] == [1, 0, 0]
    problem = check_problem(answers[-1], 429, "rate-limited")
    assert (problem["limit"], problem["rate"]) == ("mails", 0.1)
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    assert (read.status_code, read_left(read, "mails")) == (404, 0), "reading is not limited by mails"
    sent = [record for record in await read_requests(api.stack) if caller.key.id.encode() in record.value]
    assert len(sent) == 2


async def test_a_key_has_rates_of_its_own_and_is_served_after_the_time_that_was_told(api: Api) -> None:
    caller = await mint(api.stack.database_url, mail_rate=1, request_rate=0)
    async with connect(api, caller) as client:
        answers = [await client.post("/v1/emails", json=FULL)]
        while answers[-1].status_code == 202:
            answers.append(await client.post("/v1/emails", json=FULL))
        assert check_problem(answers[-1], 429, "rate-limited")["limit"] == "mails"
        await asyncio.sleep(int(answers[-1].headers["retry-after"]))
        answers.append(await client.post("/v1/emails", json=FULL))
    assert len(answers) >= 22
    assert answers[-1].status_code == 202
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"mails";q=20;w=20'}


async def test_refused_requests_count_and_are_counted(api: Api) -> None:
    reader = await mint(api.stack.database_url, scopes=[ApiScope.EMAILS_READ], request_rate=0.05)
    async with connect(api, reader) as client:
        answers = [await client.post("/v1/emails", json=FULL) for _ in range(2)]
        metrics = (await client.get("/metrics")).text
    assert [answer.status_code for answer in answers] == [403, 429], "what may not be done counts as well"
    assert 1 <= int(answers[1].headers["retry-after"]) <= 20
    assert 'milena_rate_limited_total{limit="requests"}' in metrics


def attach(filename: str, size: int = 10, **fields: str) -> dict[str, str]:
    return {"filename": filename, "content": base64.b64encode(b"x" * size).decode(), **fields}


async def test_attachments_beyond_the_limits_are_pointed_at(api: Api) -> None:
    caller = await mint(api.stack.database_url, mail_rate=0)
    faults: list[tuple[dict[str, Any], str]] = [
        ({"attachments": [attach("a.exe")]}, "/attachments/0/filename"),
        ({"attachments": [attach("a"), attach("b", content_type="text/javascript")]}, "/attachments/1/content_type"),
        ({"attachments": [attach("a", 1001)]}, "/attachments/0/content"),
        ({"attachments": [attach("a", 800), attach("b", 800)]}, "/attachments"),
        ({"attachments": [attach("a")] * 4}, "/attachments"),
        ({"attachments": [attach("a", content_id="x"), attach("b", content_id="x")]}, "/attachments/1"),
        ({"html": '<img src="cid:x">', "attachments": [attach("a")]}, "/html"),
    ]
    async with connect(api, caller) as client:
        for fields, pointer in faults:
            answer = await client.post("/v1/emails", json={**FULL, **fields})
            (error,) = check_problem(answer, 422, "invalid-content")["errors"]
            assert error["pointer"] == pointer, error
        image = attach("x.png", content_type="image/png", content_id="x")
        fine = {**FULL, "html": '<img src="cid:x">', "attachments": [image, attach("a.bat"), attach("c", 900)]}
        assert (await client.post("/v1/emails", json=fine)).status_code == 202
    assert len([record for record in await read_requests(api.stack) if caller.key.id.encode() in record.value]) == 1


async def test_a_body_that_does_not_come_is_408(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.process.port)
    caller = await mint(api.stack.database_url)
    authorization = caller.headers["Authorization"].encode()
    writer.write(
        b"POST /v1/emails HTTP/1.1\r\nhost: x\r\nauthorization: %b\r\ncontent-length: 99\r\n\r\n{" % authorization
    )
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"/problems/too-slow" in answer


async def test_the_description_tells_of_it(api: Api) -> None:
    async with httpx.AsyncClient(base_url=api.process.url) as client:
        document = (await client.get("/openapi.json")).json()
    responses = document["paths"]["/v1/emails"]["post"]["responses"]
    assert {"202", "408", "413", "429", "503"} <= set(responses)
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= set(responses["429"]["headers"])
