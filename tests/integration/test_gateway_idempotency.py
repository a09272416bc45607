"""The same request again is the same mail, whatever became of its answer; and many mails in one request."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from deploy.local.catcher import Catcher
from services.gateway.ageing import create_cleaner
from services.gateway.buckets import read_time
from shared.database import Database
from tests.support.events import wait_acknowledged
from tests.support.gateway import FULL, SIMPLE, Api, mint, read_requests, serve_api
from tests.support.servers import RealServers
from tests.support.services import ServiceRunner
from tests.support.stack import Stack

TYPE = "/problems/"
_LAPSE = "UPDATE gateway.idempotency_keys SET lease_until = now() WHERE key = $1"
_AGE = "UPDATE gateway.idempotency_keys SET created_at = created_at - interval '24 hours' WHERE key = $1 RETURNING id"


@pytest.fixture(scope="module")
def api(real_servers: RealServers) -> Iterator[Api]:
    with serve_api(real_servers) as api:
        yield api


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    headers = api.caller.headers
    async with httpx.AsyncClient(base_url=api.process.url, timeout=30, headers=headers, limits=limits) as client:
        yield client


async def run_sql(api: Api, sql: str, *args: object) -> list[Any]:
    database = Database(api.stack.database_url, pool_size=1)
    try:
        return await database.fetch(sql, *args)
    finally:
        await database.close()


def about(subject: str, **fields: Any) -> dict[str, Any]:
    return {**FULL, "subject": subject, **fields}


async def find_records(stack: Stack, subject: str) -> list[Any]:
    return [each for each in await read_requests(stack) if json.loads(each.value).get("subject") == subject]


async def post(client: httpx.AsyncClient, key: str, body: dict[str, Any], path: str = "/v1/emails") -> httpx.Response:
    return await client.post(path, json=body, headers={"Idempotency-Key": key})


def is_replay(answer: httpx.Response) -> bool:
    return "true" in answer.headers.get_list("idempotent-replayed")


def check_problem(answer: httpx.Response, status: int, slug: str) -> None:
    assert (answer.status_code, answer.json()["type"]) == (status, TYPE + slug)


async def test_of_fifty_twins_one_is_accepted_and_the_others_hear_of_it(api: Api, client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(post(client, '"twins"', about("Twins")) for _ in range(50)))
    accepted = [each for each in answers if each.status_code == 202]
    assert len([each for each in accepted if not is_replay(each)]) == 1
    assert len({each.json()["id"] for each in accepted}) == 1
    for each in answers:
        if each not in accepted:
            check_problem(each, 409, "idempotency-key-in-flight")
            assert each.headers["retry-after"] == "1"
    (record,) = await find_records(api.stack, "Twins")
    assert record.key.decode() == accepted[0].json()["id"]


async def test_an_answer_is_given_again_as_it_was(api: Api, client: httpx.AsyncClient) -> None:
    first = await post(client, '"again"', about("Again"))
    for key in ('"again"', "again"):
        answer = await post(client, key, about("Again"))
        assert (answer.status_code, answer.content, is_replay(answer)) == (202, first.content, True)
        assert answer.headers["location"] == first.headers["location"]
        assert answer.headers["content-type"] == first.headers["content-type"]
    assert not is_replay(first)
    assert len(await find_records(api.stack, "Again")) == 1


async def test_a_form_is_the_same_request_as_json_and_at_either_address(api: Api, client: httpx.AsyncClient) -> None:
    body = {**SIMPLE, "token": api.caller.secret, "subject": "Form"}
    headers = {"Idempotency-Key": "form"}
    first = await client.post("/email/", json=body, headers=headers)
    parts = {name: (None, value) for name, value in body.items()}  # with a boundary of its own each time
    again = [await client.post(path, files=parts, headers=headers) for path in ("/email", "/email/")]
    assert [(each.content, is_replay(each)) for each in again] == [(first.content, True)] * 2
    assert len(await find_records(api.stack, "Form")) == 1


async def test_a_key_belongs_to_one_request_of_one_account(api: Api, client: httpx.AsyncClient) -> None:
    first = await post(client, "mine", about("Mine"))
    check_problem(await post(client, "mine", about("Other")), 422, "idempotency-key-reused")
    batch = {"emails": [about("Mine")]}
    check_problem(await post(client, "mine", batch, "/v1/emails/batch"), 422, "idempotency-key-reused")
    stranger = await mint(api.stack.database_url, account="stranger")
    headers = stranger.headers | {"Idempotency-Key": "mine"}
    theirs = await client.post("/v1/emails", json=about("Theirs"), headers=headers)
    assert theirs.status_code == 202
    assert theirs.json()["id"] != first.json()["id"]


async def test_a_refusal_leaves_the_key_free(api: Api, client: httpx.AsyncClient) -> None:
    for body, status in (
        (about("Free", to=["nobody"]), 422),
        (about("Free", **{"from": "x@evil.test"}), 403),
        (about("Free", html="x" * 1024 * 1024), 413),
    ):
        assert (await post(client, "free", body)).status_code == status
    answer = await post(client, "free", about("Free"))
    assert (answer.status_code, is_replay(answer)) == (202, False)


async def test_after_a_day_a_key_is_new_and_old_ones_are_deleted(api: Api, client: httpx.AsyncClient) -> None:
    first = await post(client, "old", about("Old"))
    await run_sql(api, _AGE, "old")
    second = await post(client, "old", about("Old, another"))
    assert (second.status_code, is_replay(second)) == (202, False)
    assert second.json()["id"] != first.json()["id"]
    await run_sql(api, _AGE, "old")
    await post(client, "young", about("Young"))
    database = Database(api.stack.database_url, pool_size=2)
    try:
        await create_cleaner(database, timedelta(days=90)).clean()
    finally:
        await database.close()
    left = await run_sql(api, "SELECT key FROM gateway.idempotency_keys WHERE key IN ('old', 'young')")
    assert [row["key"] for row in left] == ["young"]


async def test_one_mail_is_sent_though_an_answer_was_lost_and_a_process_killed(
    api: Api, client: httpx.AsyncClient, mail_catcher: Catcher
) -> None:
    env = {**api.stack.env(), "MILENA_SMTP_PORT": str(mail_catcher.smtp_port)}
    runner = ServiceRunner(env, preloaded=True)
    faults = "publisher.acknowledged[Lost]=lose,publisher.acknowledged[Killed]=kill"
    try:
        doomed = runner.start("services.gateway", "api", env={"MILENA_TEST_FAILPOINTS": faults})
        runner.start("services.sender", "worker")
        await doomed.wait_ready(60)
        async with httpx.AsyncClient(base_url=doomed.url, timeout=30, headers=api.caller.headers) as victim:
            lost = await post(victim, "lost", about("Lost"))
            check_problem(lost, 503, "outcome-unknown")
            with pytest.raises(httpx.TransportError):
                await post(victim, "killed", about("Killed"))
        assert await doomed.wait_exit() == -9

        again = await post(client, "lost", about("Lost"))
        assert (again.status_code, again.json()["id"], is_replay(again)) == (202, lost.json()["id"], False)

        held = await post(client, "killed", about("Killed"))
        check_problem(held, 409, "idempotency-key-in-flight")
        await run_sql(api, _LAPSE, "killed")
        revived = await post(client, "killed", about("Killed"))
        assert (revived.status_code, is_replay(revived)) == (202, False)
        assert is_replay(await post(client, "killed", about("Killed")))

        for subject, answer in (("Lost", again), ("Killed", revived)):
            records = await find_records(api.stack, subject)
            assert [each.key.decode() for each in records] == [answer.json()["id"]] * 2
            assert len({each.value for each in records}) == 1, "the same mail in every byte"
        await wait_acknowledged(api.stack, "sender", len(await read_requests(api.stack)))
        mails = [mail_catcher.mailbox.read(number) for number in mail_catcher.mailbox.numbers()]
        contents = [mail[0] for mail in mails if mail]
        for line in (b"Subject: Lost\r\n", b"Subject: Killed\r\n"):
            assert len([each for each in contents if line in each]) == 1
    finally:
        runner.stop_all()


class TestBatch:
    async def test_each_mail_has_its_result_in_order(self, api: Api, client: httpx.AsyncClient) -> None:
        emails: list[Any] = [about(f"In order {number}", tags=[f"n{number}"]) for number in range(1000)]
        emails[1] = about("bad", to=["ann@example.org", "nobody"])
        emails[500] = 7
        emails[998] = about("bad", **{"from": "x@evil.test"})
        answer = await client.post("/v1/emails/batch", json={"emails": emails})
        assert answer.status_code == 202, answer.text
        told = answer.json()
        assert (told["accepted"], told["refused"], told["unknown"]) == (997, 3, 0)
        problems = {n: each["problem"] for n, each in enumerate(told["results"]) if "problem" in each}
        assert {n: (each["status"], each["errors"][0]["pointer"]) for n, each in problems.items()} == {
            1: (422, "/to/1"),
            500: (422, ""),
            998: (403, "/from"),
        }
        ids = [each["id"] for each in told["results"] if each.get("status") == "queued"]
        assert ids == sorted(ids)
        assert read_time(UUID(ids[0])) == read_time(UUID(told["batch_id"]))
        records = {each.key.decode(): json.loads(each.value) for each in await read_requests(api.stack)}
        good = [fields for n, fields in enumerate(emails) if n not in problems]
        assert [records[each]["subject"] for each in ids] == [fields["subject"] for fields in good]
        assert {records[each]["batch_id"] for each in ids} == {told["batch_id"]}
        assert {records[each]["api_key_id"] for each in ids} == {api.caller.key.id}

    async def test_one_event_with_all_the_headers_of_a_single_mail(self, api: Api, client: httpx.AsyncClient) -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        body = {"emails": [about("Headers")]}
        answer = await client.post("/v1/emails/batch", json=body, headers={"traceparent": trace})
        (result,) = answer.json()["results"]
        (record,) = await find_records(api.stack, "Headers")
        headers = {name: value.decode() for name, value in record.headers}
        assert (headers["ce_id"], headers["ce_type"]) == (result["id"], "email.requested")
        requested_at = json.loads(record.value)["requested_at"]
        assert datetime.fromisoformat(headers["ce_time"]) == datetime.fromisoformat(requested_at)
        assert headers["traceparent"].split("-")[1] == trace.split("-")[1]

    async def test_nothing_is_sent_where_all_was_wanted_or_nothing_is_acceptable(
        self, api: Api, client: httpx.AsyncClient
    ) -> None:
        good, bad = about("All or nothing"), about("bad", to=[])
        for body in ({"emails": [good, bad], "all_or_nothing": True}, {"emails": [bad, bad]}):
            answer = await client.post("/v1/emails/batch", json=body)
            check_problem(answer, 422, "batch-refused")
            assert answer.json()["results"][1]["problem"]["errors"][0]["pointer"] == "/to"
        assert await find_records(api.stack, "All or nothing") == []

    async def test_a_batch_again_is_the_same_mails(self, api: Api, client: httpx.AsyncClient) -> None:
        body = {"emails": [about("Batch again"), about("bad", to=[]), about("Batch again")]}
        first, again = [await post(client, "batch", body, "/v1/emails/batch") for _ in range(2)]
        assert (again.content, is_replay(again)) == (first.content, True)
        assert len(await find_records(api.stack, "Batch again")) == 2
        # As if the process had died before it could note its answer.
        await run_sql(api, "UPDATE gateway.idempotency_keys SET status = NULL, lease_until = now() WHERE key = 'batch'")
        revived = await post(client, "batch", body, "/v1/emails/batch")
        assert (revived.json(), is_replay(revived)) == (first.json(), False)
        records = await find_records(api.stack, "Batch again")
        assert (len(records), len({each.value for each in records})) == (4, 2)

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({}, "/emails"),
            ({"emails": []}, "/emails"),
            ({"emails": {}}, "/emails"),
            ({"emails": [1] * 1001}, "/emails"),
            ({"emails": [1], "all_or_nothing": 1}, "/all_or_nothing"),
            ({"emails": [1], "batch_id": "mine"}, "/batch_id"),
        ],
    )
    async def test_what_is_no_batch_is_pointed_at(
        self, client: httpx.AsyncClient, body: dict[str, Any], pointer: str
    ) -> None:
        answer = await client.post("/v1/emails/batch", json=body)
        check_problem(answer, 422, "invalid-content")
        assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]

    async def test_a_batch_may_be_larger_than_a_mail_up_to_its_own_limit(self, client: httpx.AsyncClient) -> None:
        large = about("Large", html="x" * 900_000)
        answer = await client.post("/v1/emails/batch", json={"emails": [large] * 8})
        assert (answer.status_code, answer.json()["accepted"]) == (202, 8)
        refused = await client.post("/v1/emails/batch", content=b"x" * (16 * 1024 * 1024 + 1))
        check_problem(refused, 413, "too-large")
        assert refused.json()["limit"] == 16 * 1024 * 1024
