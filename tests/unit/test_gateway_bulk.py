"""`POST /v1/emails/bulk`: what each recipient gets, what is refused, and how it is divided into events."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from fastapi import FastAPI

from services.gateway.accepting import Acceptor
from services.gateway.bulk import BulkLimits, setup_bulk
from services.gateway.idempotency import Idempotency
from services.gateway.templates.content import Content, StoredTemplate, Variable
from shared.composing.attachments import AttachmentRules
from shared.events import BulkRequested, Coordinates, derive_batch_entry_id, open_record, read_bulk
from shared.events.requested import TemplateRef
from shared.problems import Problem
from shared.publisher import OutcomeUnknown, PublishError
from shared.settings import HttpSettings
from shared.web import setup_web
from tests.unit.test_gateway_batch import Keys, ScriptedPublisher
from tests.unit.test_gateway_idempotency import ScriptedKeys, grant

ANN = {"to": "ann@example.org", "name": "Ann", "variables": {"code": "A1"}}
BOB = {"to": "Bob <bob@example.net>", "variables": {"code": "B2"}, "metadata": {"row": 2}}
BULK = {
    "from": "Shop <no-reply@example.com>",
    "subject": "{{ name }}, you are invited",
    "text": "Dear {{ name }}, your code is {{ code }}. This was sent to {{ address }}.",
}


class Templates:
    """One of them is known: it needs a code, and has a default for the greeting."""

    async def take_content(
        self, account: str, fields: dict[str, Any], moment: datetime | None = None
    ) -> tuple[StoredTemplate, dict[str, Any]]:
        if fields["template"]["name"] != "hello":
            raise Problem(422, "invalid-content", "There is no such template.")
        variables = {"greeting": Variable(required=False, has_default=True, default="Hello"), "code": Variable()}
        content = Content("{{ greeting }} {{ code }}", "t", None, variables)
        ref = TemplateRef(name="hello", version=3)
        stored = StoredTemplate("hello", 3, content, None, "k")  # type: ignore[arg-type]
        return stored, {**fields, "subject": content.subject, "text": content.text, "template": ref}


async def post(
    publisher: ScriptedPublisher, body: Any, *, limits: BulkLimits | None = None, keys: ScriptedKeys | None = None
) -> httpx.Response:
    app = FastAPI()
    once, acceptor = Idempotency(keys or ScriptedKeys(grant)), Acceptor(publisher, "email.requested", 10_000)
    found = limits or BulkLimits(10_000, 1_000_000)
    setup_bulk(app, Keys(), acceptor, once, Templates(), AttachmentRules(), found)  # type: ignore[arg-type]
    setup_web(app, HttpSettings(), {}, body_limit=1_000_000)
    headers = {"Authorization": "Bearer mk_x", "Idempotency-Key": "k"}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        return await client.post("/v1/emails/bulk", json=body)


def read(publisher: ScriptedPublisher) -> list[BulkRequested]:
    """As the sender and the scheduler read them."""
    found = []
    for message in publisher.published:
        assert dict(message.headers)["ce_type"] == b"email.bulk_requested"
        opened = open_record(message.value, "email.bulk_requested")
        found.append(read_bulk(opened, "cluster", Coordinates("email.requested", 0, 0, 0)))
    return found


async def refuse(body: Any) -> dict[str, str]:
    """Errors by pointer."""
    publisher = ScriptedPublisher()
    answer = await post(publisher, body)
    assert (answer.status_code, publisher.published) == (422, [])
    return {error["pointer"]: error["detail"] for error in answer.json()["errors"]}


async def test_every_recipient_gets_a_mail_of_his_own_under_the_id_that_is_answered() -> None:
    publisher = ScriptedPublisher()
    answer = await post(publisher, {**BULK, "recipients": [ANN, BOB, ANN], "priority": "bulk", "tags": ["t"]})
    told = answer.json()
    assert (answer.status_code, told["accepted"], told["refused"], told["unknown"]) == (202, 3, 0, 0)
    [bulk] = read(publisher)
    mails = bulk.list_mails()
    assert [str(mail.id) for mail in mails] == [result["id"] for result in told["results"]]
    assert mails[1].id == derive_batch_entry_id(UUID(told["batch_id"]), 1)
    assert [str(mail.to[0]) for mail in mails[:2]] == ["Ann <ann@example.org>", "Bob <bob@example.net>"]
    assert mails[1].variables == {"name": "Bob", "address": "bob@example.net", "code": "B2"}
    assert (mails[0].metadata, mails[1].metadata, mails[0].tags) == ({}, {"row": 2}, ["t"])
    assert {mail.batch_id for mail in mails} == {told["batch_id"]}
    assert (bulk.priority, bulk.account, bulk.requested_at is not None) == ("bulk", "default", True)
    assert mails[0].api_key_id


async def test_a_missing_variable_is_named_with_its_recipient() -> None:
    nameless = {"to": "cleo@example.org", "variables": {}}
    errors = await refuse({**BULK, "recipients": [ANN, nameless, BOB, {**BOB, "variables": {}}]})
    assert errors.keys() == {"/recipients/1/variables/name", "/recipients/3/variables/code"}
    assert "`code` is not given" in errors["/recipients/3/variables/code"]
    stored = {
        "from": "no-reply@example.com",
        "template": {"name": "hello"},
        "recipients": [ANN, {"to": "b@example.org"}],
    }
    assert (await refuse(stored)).keys() == {"/recipients/1/variables/code"}


async def test_a_stored_template_is_filled_in_for_each() -> None:
    publisher = ScriptedPublisher()
    await post(publisher, {"from": "no-reply@example.com", "template": {"name": "hello"}, "recipients": [ANN]})
    [bulk] = read(publisher)
    assert bulk.mails[0].variables == {"code": "A1", "greeting": "Hello"}
    assert bulk.template == TemplateRef(name="hello", version=3)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"recipients": []}, "/recipients"),
        ({"recipients": [ANN] * 1001}, "/recipients"),
        ({"recipients": [ANN, "bob"]}, "/recipients/1"),
        ({"recipients": [{**ANN, "to": "nobody"}]}, "/recipients/0/to"),
        ({"recipients": [{**ANN, "id": "x"}]}, "/recipients/0/id"),
        ({"recipients": [{**ANN, "metadata": {"a": "b" * 9000}}]}, "/recipients/0/metadata"),
        ({"cc": ["a@example.org"]}, "/cc"),
        ({"to": ["a@example.org"]}, "/to"),
        ({"variables": {}}, "/variables"),
        ({"batch_id": "b"}, "/batch_id"),
        ({"text": "{% if %}"}, "/text"),
        ({"priority": "urgent"}, "/priority"),
        ({"subject": None}, "/subject"),
        ({"html": '<img src="cid:logo">'}, "/html"),
    ],
)
async def test_what_is_wrong_is_pointed_at(change: dict[str, Any], pointer: str) -> None:
    assert pointer in await refuse({**BULK, "recipients": [ANN], **change})


async def test_a_sender_that_is_not_the_keys_is_refused() -> None:
    answer = await post(ScriptedPublisher(), {**BULK, "from": "a@elsewhere.org", "recipients": [ANN]})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (403, "/from")


async def test_many_are_divided_into_events_within_the_limits_the_same_whenever_asked() -> None:
    recipients = [{**ANN, "to": f"user{number}@example.org"} for number in range(900)]
    first, again = ScriptedPublisher(), ScriptedPublisher()
    keys = ScriptedKeys(grant)
    for publisher in (first, again):
        answer = await post(publisher, {**BULK, "recipients": recipients}, limits=BulkLimits(50_000, 10**6), keys=keys)
        assert answer.json()["accepted"] == 900
    bulks = read(first)
    assert [len(bulk.mails) for bulk in bulks] == [len(bulk.mails) for bulk in read(again)]
    assert max(len(message.value) for message in first.published) <= 50_000
    ids = [str(entry.id) for bulk in read(again) for entry in bulk.mails]
    assert ids == [result["id"] for result in answer.json()["results"]]
    large = await post(ScriptedPublisher(), {**BULK, "recipients": recipients}, limits=BulkLimits(10**6, 10**6))
    assert large.status_code == 202


async def test_what_would_be_too_large_is_refused_with_the_limit_it_meets() -> None:
    long = {**ANN, "variables": {"code": "x" * 6000}}
    one = await post(ScriptedPublisher(), {**BULK, "recipients": [long]}, limits=BulkLimits(5000, 10**6))
    assert (one.status_code, one.json()["limit"]) == (413, 5000)
    together = await post(ScriptedPublisher(), {**BULK, "recipients": [long] * 5}, limits=BulkLimits(10_000, 20_000))
    assert (together.status_code, together.json()["limit"]) == (413, 20_000)


@pytest.mark.parametrize(
    ("end", "status", "counts"),
    [
        (lambda number: OutcomeUnknown("late") if number else None, 202, (2, 1)),
        (lambda _: OutcomeUnknown("late"), 503, None),
    ],
)
async def test_what_kafka_has_not_confirmed_is_told_recipient_by_recipient(
    end: Callable[[int], PublishError | None], status: int, counts: tuple[int, int] | None
) -> None:
    padded = [{**each, "variables": {"code": "x" * 1000}} for each in (ANN, BOB, ANN)]
    answer = await post(ScriptedPublisher(end), {**BULK, "recipients": padded}, limits=BulkLimits(3200, 10**6))
    told = answer.json()
    assert answer.status_code == status
    if counts:
        assert (told["accepted"], told["unknown"]) == counts
        assert told["results"][2]["problem"]["outcome"] == "unknown"
    assert len(told["results"]) == 3


async def test_a_large_content_is_tried_once_for_each_set_of_variables() -> None:
    publisher = ScriptedPublisher()
    body = {**BULK, "text": "{{ name }}" + "x" * 150_000, "recipients": [ANN] * 20 + [{"to": "a@example.org"}]}
    answer = await post(publisher, body, limits=BulkLimits(10**6, 10**7))
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/recipients/20/variables/name"]
    assert orjson.loads(answer.content)["type"].endswith("invalid-content")
