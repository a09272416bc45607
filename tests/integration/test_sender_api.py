"""/v1/unknown and /v1/suppressions, seen from outside: a sender and its API as processes, a scripted relay."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from services.sender.shares import Limits, Wish
from services.sender.store.shares import Report, ShareStore
from services.sender.unknown_commands import app
from shared.access import ApiScope
from shared.database import Database
from tests.support.gateway import mint
from tests.support.operating import Operated, operate, wait_until
from tests.support.servers import RealServers

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operated(real_servers: RealServers) -> AsyncIterator[Operated]:
    async with operate(real_servers, MILENA_SUPPRESS_AFTER_HARD_BOUNCE="true") as running:
        yield running


async def hold(operated: Operated, count: int = 1, **fields: Any) -> list[str]:
    """Mails that the relay swallows without an answer, waiting for an operator."""
    operated.plan.answers["dot", "@lost.example"] = "DROP"
    mail = {"from": "no-reply@lost.example", "on_unknown": "hold"} | fields
    ids = await operated.publish(count, **mail)
    for each in ids:
        await operated.wait_result(each, "unknown")
    operated.plan.answers.clear()
    return ids


async def list_unknown(operated: Operated, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        page = await operated.get("/v1/unknown", **params, **after)
        found += page["data"]
        if "next" not in page:
            return found
        after = {"after": page["next"]}


async def run_command(operated: Operated, *arguments: str) -> str:
    """What `python -m services.sender unknown …` prints."""
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=operated.stack.env())
    assert result.exit_code == 0, result.output
    return result.output


async def test_only_a_key_that_may_operate_is_let_in(operated: Operated) -> None:
    other = await mint(operated.stack.database_url, scopes=(ApiScope.EMAILS_SEND,), account="shop")
    for path in ("/v1/sending", "/v1/unknown", "/v1/suppressions", "/v1/suppressions/export"):
        async with httpx.AsyncClient(base_url=str(operated.api.base_url)) as stranger:
            assert (await stranger.get(path)).status_code == 401
            answer = await stranger.get(path, headers=other.headers)
        assert (answer.status_code, answer.json()["scope"]) == (403, "operate")


async def test_what_waits_is_listed_with_what_the_ledger_knows(operated: Operated) -> None:
    ids = await hold(operated, 3, account="listed", to=["ann@example.org", "bob@example.org"])
    found = await list_unknown(operated, account="listed", limit=2)
    assert sorted(each["id"] for each in found) == sorted(ids)
    mail = found[0]
    assert (mail["account"], mail["attempt"], mail["unknowns"]) == ("listed", 1, 1)
    assert mail["message_id"] == f"<{mail['id']}@lost.example>"
    assert mail["relay"]
    assert {each["address"]: each["state"] for each in mail["recipients"]} == {
        "ann@example.org": "unknown",
        "bob@example.org": "unknown",
    }
    assert datetime.fromisoformat(mail["expires_at"]) > datetime.now(UTC)
    assert (await operated.get(f"/v1/unknown/{mail['id']}")) == mail
    assert len(await list_unknown(operated, relay=mail["relay"], account="listed")) == 3
    assert await list_unknown(operated, relay="another:25", account="listed") == []
    assert await list_unknown(operated, older_than_s=3600) == []


async def test_settled_as_sent_it_is_told_once_and_not_sent_again(operated: Operated) -> None:
    (email_id,) = await hold(operated)
    taken = len(operated.relay.taken)
    path = f"/v1/unknown/{email_id}/settle"
    decided = await operated.post(path, 202, outcome="sent", note="found in the relay's log")
    assert decided == {"id": email_id, "decided": "sent"}
    told = (await operated.wait_result(email_id, "unknown", "sent"))[-1]
    assert (told.data["complete"], told.data["attempt"], told.data["outstanding"]) == (True, 2, 0)
    assert told.data["response"] == "settled by an operator as sent: found in the relay's log"
    assert told.data["relay"]
    assert await operated.post(path, 202, outcome="sent") == decided
    refused = await operated.post(path, 409, outcome="failed")
    assert refused["type"] == "/problems/not-waiting"
    await operated.post(f"/v1/unknown/{email_id}/resend", 409)
    assert (await operated.api.get(f"/v1/unknown/{email_id}")).status_code == 404
    assert len(operated.relay.taken) == taken


async def test_settled_as_failed_it_ends_with_reason_unknown(operated: Operated) -> None:
    (email_id,) = await hold(operated)
    await operated.post(f"/v1/unknown/{email_id}/settle", 202, outcome="failed")
    told = (await operated.wait_result(email_id, "unknown", "unknown"))[-1]
    assert (told.data["final"], told.data["complete"]) == (True, True)
    assert told.data["recipients"][0]["diagnostic"] == "settled by an operator as failed"


async def test_resent_it_is_the_same_message_and_the_next_attempt(operated: Operated) -> None:
    (email_id,) = await hold(operated)
    await operated.post(f"/v1/unknown/{email_id}/resend", 202)
    told = (await operated.wait_result(email_id, "unknown", "sent"))[-1]
    assert (told.data["attempt"], told.data["complete"]) == (2, True)
    first, second = [each.raw for each in operated.relay.taken if email_id in each.message_id]
    assert first == second
    await operated.post(f"/v1/unknown/{email_id}/resend", 202)  # asked again: not sent once more
    (held_again,) = await hold(operated)
    operated.plan.answers["dot", "@lost.example"] = "DROP"
    await operated.post(f"/v1/unknown/{held_again}/resend", 202)
    await operated.wait_result(held_again, "unknown", "unknown")
    await operated.post(f"/v1/unknown/{held_again}/settle", 202, outcome="sent")  # it waits anew: a new decision
    await operated.wait_result(held_again, "unknown", "unknown", "sent")
    assert len(operated.list_taken([email_id])) == 2


async def test_with_the_relay_away_mail_can_be_settled_all_the_same(operated: Operated) -> None:
    (email_id,) = await hold(operated)
    await operated.relay.stop()
    try:
        (waiting,) = await operated.publish()
        await asyncio.sleep(2)
        await operated.post(f"/v1/unknown/{email_id}/settle", 202, outcome="sent")
        await operated.wait_result(email_id, "unknown", "sent", timeout_s=5)
    finally:
        await operated.relay.start()
    await operated.wait_taken([waiting], 20)


async def test_a_decision_taken_the_moment_it_waits_is_acted_on_at_once(operated: Operated) -> None:
    operated.plan.answers["dot", "@lost.example"] = "DROP"
    ids = await operated.publish(4, account="hasty", on_unknown="hold", **{"from": "no-reply@lost.example"})
    pending = set(ids)
    async with asyncio.timeout(10):
        while pending:
            for each in list(pending):
                answer = await operated.api.post(f"/v1/unknown/{each}/settle", json={"outcome": "failed"})
                if answer.status_code == 202:
                    pending.discard(each)
    for each in ids:
        await operated.wait_result(each, "unknown", "unknown", timeout_s=5)
    operated.plan.answers.clear()


async def test_many_are_decided_on_by_a_filter(operated: Operated) -> None:
    ids, others = await hold(operated, 5, account="many"), await hold(operated, account="few")
    refused = await operated.post("/v1/unknown/resend", 422)
    assert refused["type"] == "/problems/filter-empty"
    decided = await operated.post("/v1/unknown/settle", 202, account="many", outcome="failed", limit=3)
    assert decided["decided"] == 3
    decided = await operated.post("/v1/unknown/resend", 202, account="many", older_than_s=0)
    assert decided["decided"] == 2
    await wait_until(lambda: all(operated.results[each][-1].data["complete"] for each in ids))
    assert [each["id"] for each in await list_unknown(operated, account="few")] == others


async def test_an_unknown_id_and_bad_input_are_told(operated: Operated) -> None:
    await operated.post(f"/v1/unknown/{uuid4()}/resend", 404)
    (sent,) = await operated.publish()
    await operated.wait_result(sent, "sent")
    await operated.post(f"/v1/unknown/{sent}/settle", 409, outcome="failed")
    refused = await operated.post(f"/v1/unknown/{sent}/settle", 422, outcome="lost")
    assert refused["errors"][0]["pointer"] == "/outcome"
    answer = await operated.api.get("/v1/unknown", params={"after": "nonsense"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/query/after")
    for path in (
        "/v1/unknown?relay=%00",
        "/v1/suppressions?address=a%00@x.org",
        "/v1/suppressions?after=WyJcdTAwMDAiLCJ4Il0",
    ):
        assert (await operated.api.get(path)).status_code == 422, path
    refused = await operated.post("/v1/sending/pause", 422, scope="all", reason="\0")
    assert refused["errors"][0]["pointer"] == "/reason"
    for document, pointer in (
        ({"scope": "account"}, "/account"),
        ({"scope": "all", "account": "shop"}, "/account"),
        ({"scope": "tag", "account": "shop"}, "/tag"),
        ({"scope": "everything"}, "/scope"),
    ):
        refused = await operated.post("/v1/sending/pause", 422, **document)
        assert refused["errors"][0]["pointer"] == pointer


async def test_the_commands_do_the_same(operated: Operated) -> None:
    first, second = await hold(operated, 2, account="commanded")
    listed = await run_command(operated, "list", "--account", "commanded")
    assert first in listed and second in listed and "ann@example.org" not in listed
    assert "settled" not in await run_command(operated, "settle", "sent", first, "--note", "seen in the log")
    told = (await operated.wait_result(first, "unknown", "sent"))[-1]
    assert told.data["response"] == "settled by an operator as sent: seen in the log"
    await run_command(operated, "resend", "--account", "commanded", "--older-than", "0")
    await operated.wait_result(second, "unknown", "sent")


async def test_relays_are_shown_as_the_senders_see_them(operated: Operated) -> None:
    database = Database(operated.stack.database_url, pool_size=1)
    store, process = ShareStore(database), uuid4()
    limits = Limits("backup:25", "smtp", 7, connections=4, mails_per_second=50)
    await store.join([limits], 63, process)
    report = Report("backup:25", Wish(process, 4, 50.0, open=2), state="open", error="connection refused")
    await store.lease([limits], 63, [report], timedelta(seconds=30))
    (shown,) = [each for each in (await operated.get("/v1/relays"))["data"] if each["name"] == "backup:25"]
    assert (shown["priority"], shown["connections"], shown["mails_per_second"]) == (7, 4, 50)
    assert (shown["available"], shown["open_connections"]) == (False, 2)
    (seen,) = shown["processes"]
    assert (seen["slot"], seen["state"], seen["error"]) == (63, "open", "connection refused")
    await store.leave(process)
    assert "backup:25" not in [each["name"] for each in (await operated.get("/v1/relays"))["data"]]
    await database.close()


# --- suppressions ---


async def test_a_suppressed_address_is_refused_however_it_is_written(operated: Operated) -> None:
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    kept = await operated.post(
        "/v1/suppressions", account="shop", address="Ann@EXAMPLE.org", reason="asked", until=until
    )
    assert (kept["address"], kept["reason"]) == ("ann@example.org", "asked")
    kept = await operated.post("/v1/suppressions", account="shop", address="bob@bücher.example")
    assert kept["address"] == "bob@xn--bcher-kva.example"
    await operated.post("/v1/suppressions", account="shop", address="Jörg@example.org")
    to = ["ANN@example.org", "bob@BÜCHER.example", "jörg@example.org", "cid@example.org"]
    (email_id,) = await operated.publish(account="shop", to=to)
    results = await operated.wait_result(email_id, "sent", "suppressed")
    assert results[0].data["recipients"] == ["cid@example.org"]
    assert len(results[-1].data["recipients"]) == 3
    (other,) = await operated.publish(account="another", to=["ann@example.org"])
    await operated.wait_result(other, "sent")

    page = await operated.get("/v1/suppressions", account="shop", limit=2)
    rest = await operated.get("/v1/suppressions", account="shop", limit=2, after=page["next"])
    assert [each["address"] for each in page["data"] + rest["data"]] == [
        "ann@example.org",
        "bob@xn--bcher-kva.example",
        "jörg@example.org",
    ]
    (found,) = (await operated.get("/v1/suppressions", address="ann@Example.org"))["data"]
    assert found["account"] == "shop"
    gone = {"account": "shop", "address": "ANN@example.org"}
    assert (await operated.api.delete("/v1/suppressions", params=gone)).status_code == 204
    assert (await operated.api.delete("/v1/suppressions", params=gone)).status_code == 404
    (email_id,) = await operated.publish(account="shop", to=["ann@example.org"])
    await operated.wait_result(email_id, "sent")


async def test_a_hard_bounce_suppresses_the_address_and_nothing_else_does(operated: Operated) -> None:
    operated.plan.answers |= {
        ("rcpt", "gone@"): "550 5.1.1 no such user",
        ("rcpt", "policy@"): "550 5.7.1 refused by policy",
    }
    (email_id,) = await operated.publish(
        account="bouncing", to=["gone@example.org", "policy@example.org", "x@example.org"]
    )
    await operated.wait_result(email_id, "sent", "rejected")
    (kept,) = (await operated.get("/v1/suppressions", account="bouncing"))["data"]
    assert (kept["address"], kept["reason"]) == ("gone@example.org", "hard_bounce")
    assert timedelta(days=179) < datetime.fromisoformat(kept["until"]) - datetime.now(UTC) < timedelta(days=181)
    (email_id,) = await operated.publish(account="bouncing", to=["gone@example.org"])
    await operated.wait_result(email_id, "suppressed")


async def post_csv(operated: Operated, content: bytes, **params: str) -> httpx.Response:
    headers = {"Content-Type": "text/csv; charset=utf-8"}
    return await operated.api.post("/v1/suppressions/import", content=content, params=params, headers=headers)


async def test_a_csv_file_is_imported_and_each_bad_row_told_with_its_line(operated: Operated) -> None:
    lines = [
        "\ufeffAddress;Reason;Until;Account",
        'ann@example.org;"asked; twice";2099-12-31;',
        "no address;;;",
        "bob@example.org;;2001-01-01;",
        "bob@example.org;;soon;",
        "",
        "cid@example.org;;;other",
        "dan@example.org;;;!",
        'eve@example.org;"torn',
        "far@example.org;;9999-12-31T23:00:00-14:00;",
    ]
    content = "\r\n".join(lines).encode() + b"\r\n\xff@example.org;;;"
    answer = await post_csv(operated, content, account="listed")
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["imported"], report["refused"]) == (2, 7)
    details = {each["line"]: each["detail"] for each in report["errors"]}
    assert sorted(details) == [3, 4, 5, 8, 9, 10, 11]
    assert "until: is over" in details[4]
    assert "2026-12-31" in details[5]
    assert "UTF-8" in details[11]
    exported = await operated.api.get("/v1/suppressions/export", params={"account": "listed"})
    assert exported.headers["content-type"].startswith("text/csv")
    (row,) = csv.DictReader(io.StringIO(exported.text))
    assert (row["address"], row["reason"], row["until"]) == (
        "ann@example.org",
        "asked; twice",
        "2100-01-01T00:00:00+00:00",
    )
    again = await post_csv(operated, exported.content)
    assert again.json() == {"imported": 1, "refused": 0, "errors": []}


async def test_a_file_that_is_no_list_is_refused_with_what_to_do(operated: Operated) -> None:
    for content, words in (
        ("address\nann@example.org".encode("utf-16"), "UTF-16"),
        (b"ann@example.org\nbob@example.org", "name the columns"),
        (b"address\n" + b"x" * 20_000, "is this a CSV file"),
    ):
        answer = await post_csv(operated, content)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/unreadable-list")
        assert words in answer.json()["detail"]
    answer = await operated.api.post("/v1/suppressions/import", json={"address": "ann@example.org"})
    assert answer.status_code == 415


async def test_a_long_file_is_imported_in_portions(operated: Operated) -> None:
    async def write() -> AsyncIterator[bytes]:
        yield b"address\n"
        for start in range(0, 30_000, 500):
            yield b"".join(b"u%d@example.org\n" % number for number in range(start, start + 500))

    headers = {"Content-Type": "text/csv"}
    path, params = "/v1/suppressions/import", {"account": "long"}
    answer = await operated.api.post(path, content=write(), params=params, headers=headers, timeout=60)
    assert answer.json() == {"imported": 30_000, "refused": 0, "errors": []}
    exported = await operated.api.get("/v1/suppressions/export", params={"account": "long"})
    assert exported.text.count("\r\n") == 30_001
