"""A batch's answer, for every way in which Kafka may take it; and that single requests do not wait for it."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.gateway.accepting import Acceptor
from services.gateway.batch import setup_batch
from services.gateway.idempotency import Idempotency
from services.gateway.idempotency_store import Claim
from shared.access import ApiKey
from shared.composing.attachments import AttachmentRules
from shared.problems import Problem
from shared.producing import Message
from shared.publisher import OutcomeUnknown, PublishError, PublisherUnavailable
from shared.settings import HttpSettings
from shared.web import setup_web
from tests.support.gateway import FULL, make_key
from tests.support.turns import count_turns
from tests.unit.test_gateway_idempotency import ScriptedKeys, grant

MAIL = {**FULL, "subject": "s"}
BAD = {**MAIL, "to": ["nobody"]}
UNKNOWN, REFUSED = OutcomeUnknown("not in time"), PublisherUnavailable("no leader")
KEY = make_key("*@example.com")


class ScriptedPublisher:
    """Takes groups, and tells of each record's end what it was told to."""

    def __init__(self, end: Callable[[int], PublishError | None] = lambda _: None, *, away: bool = False) -> None:
        self._end = end
        self._away = away
        self.published: list[Message] = []

    async def publish(self, message: Message) -> None:
        raise AssertionError("a batch goes out in one go")

    async def publish_each(self, messages: Sequence[Message]) -> list[PublishError | None]:
        if self._away:
            raise REFUSED
        self.published += messages
        return [self._end(number) for number in range(len(messages))]


class Templates:
    """One of them is known."""

    async def resolve(self, account: str, fields: dict[str, Any], moment: object = None) -> dict[str, Any]:
        content = {name: value for name, value in fields.items() if name != "template"}
        if fields["template"]["name"] != "hello":
            raise Problem(422, "invalid-content", "There is no such template.")
        return {**content, "subject": "Hello", "text": "Stored"}


class Keys:
    """Every secret is a key."""

    async def find(self, secret: str) -> ApiKey:
        return KEY


def build(publisher: ScriptedPublisher, keys: ScriptedKeys | None = None, **settings: Any) -> FastAPI:
    app = FastAPI()
    once, acceptor = Idempotency(keys or ScriptedKeys(grant)), Acceptor(publisher, "email.requested", 10_000)
    rules = AttachmentRules(count=1)
    setup_batch(app, Keys(), acceptor, once, Templates(), rules)  # type: ignore[arg-type]
    setup_web(app, HttpSettings(**settings), {}, body_limit=1_000_000)
    return app


async def post(publisher: ScriptedPublisher, body: dict[str, Any], keys: ScriptedKeys | None = None) -> httpx.Response:
    return await ask(build(publisher, keys), body)


async def ask(app: FastAPI, body: dict[str, Any]) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    headers = {"Authorization": "Bearer mk_x", "Idempotency-Key": "k"}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        return await client.post("/v1/emails/batch", json=body)


async def test_a_mail_may_name_a_template_and_one_that_is_not_there_is_refused_alone() -> None:
    publisher = ScriptedPublisher(lambda _: None)
    addressed = {name: MAIL[name] for name in ("from", "to") if name in MAIL}
    good, bad = ({**addressed, "template": {"name": name}} for name in ("hello", "none"))
    told = (await post(publisher, {"emails": [bad, good]})).json()
    assert (told["accepted"], told["refused"]) == (1, 1)
    assert told["results"][0]["problem"]["detail"] == "There is no such template."
    assert json.loads(publisher.published[0].value or b"")["text"] == "Stored"


async def test_what_kafka_has_is_accepted_and_the_rest_told_apart() -> None:
    publisher = ScriptedPublisher(lambda number: [None, UNKNOWN, REFUSED, None][number])
    keys = ScriptedKeys(grant)
    answer = await post(publisher, {"emails": [MAIL, BAD, MAIL, MAIL, MAIL]}, keys)
    told = answer.json()
    assert (answer.status_code, told["accepted"], told["refused"], told["unknown"]) == (202, 2, 2, 1)
    first, bad, unknown, refused, last = told["results"]
    assert (first["status"], last["status"]) == ("queued", "queued")
    assert bad["problem"]["status"] == 422
    assert (unknown["problem"]["outcome"], refused["problem"]["outcome"]) == ("unknown", "refused")
    assert unknown["problem"]["id"] == publisher.published[1].key.decode()  # type: ignore[union-attr]
    assert keys.noted == ["reopened"], "asked again, what is in doubt is published again"


async def test_where_kafka_confirms_none_the_ids_are_told() -> None:
    keys = ScriptedKeys(grant)
    answer = await post(ScriptedPublisher(lambda _: UNKNOWN), {"emails": [MAIL, BAD]}, keys)
    told = answer.json()
    assert (answer.status_code, told["outcome"], len(told["results"])) == (503, "unknown", 2)
    assert "id" in told["results"][0]["problem"]
    assert keys.noted == ["reopened"]


async def test_with_kafka_away_nothing_was_written() -> None:
    keys = ScriptedKeys(grant)
    answer = await post(ScriptedPublisher(away=True), {"emails": [MAIL, BAD]}, keys)
    assert (answer.status_code, answer.json()["outcome"]) == (503, "refused")
    assert answer.headers["retry-after"]
    assert keys.noted == ["released"]


@pytest.mark.parametrize("body", [{"emails": [MAIL, BAD], "all_or_nothing": True}, {"emails": [BAD]}])
async def test_where_none_may_go_none_is_published(body: dict[str, Any]) -> None:
    publisher, keys = ScriptedPublisher(), ScriptedKeys(grant)
    answer = await post(publisher, body, keys)
    assert (answer.status_code, publisher.published, keys.noted) == (422, [], ["released"])
    assert len(answer.json()["results"]) == len(body["emails"])


async def test_a_batch_beyond_the_keys_rate_is_refused_whole_and_burns_no_idempotency_key() -> None:
    publisher, keys = ScriptedPublisher(), ScriptedKeys(grant)
    app = build(publisher, keys, mail_rate=0.1, rate_window_s=30)
    first, second = await ask(app, {"emails": [MAIL, BAD, MAIL]}), await ask(app, {"emails": [MAIL, BAD, MAIL]})
    third = await ask(app, {"emails": [BAD, MAIL]})
    assert [first.status_code, second.status_code, third.status_code] == [202, 429, 202], "only acceptable mails count"
    assert (second.json()["limit"], len(publisher.published)) == ("mails", 3)
    assert [str(each) for each in keys.noted].index("released") == 1


@pytest.mark.parametrize(
    ("away", "emails", "error"),
    [(False, [MAIL], None), (False, [BAD], "batch-refused"), (True, [MAIL], "PublisherUnavailable")],
)
async def test_however_a_batch_ends_its_span_does(
    spans: InMemorySpanExporter, away: bool, emails: list[Any], error: str | None
) -> None:
    await post(ScriptedPublisher(away=away), {"emails": emails})
    (span,) = (each for each in spans.get_finished_spans() if each.name == "publish email.requested")
    assert span.status.description == error


async def test_a_mails_attachments_keep_to_the_rules() -> None:
    file = {"filename": "a.txt", "content": "YQ=="}
    answer = await post(ScriptedPublisher(), {"emails": [MAIL, {**MAIL, "attachments": [file, file]}]})
    assert answer.json()["results"][1]["problem"]["errors"][0]["pointer"] == "/attachments"


async def test_a_mail_beyond_the_event_limit_is_refused_alone() -> None:
    answer = await post(ScriptedPublisher(), {"emails": [MAIL, {**MAIL, "html": "x" * 10_000}]})
    assert answer.status_code == 202
    assert (answer.json()["results"][1]["problem"]["status"], answer.json()["accepted"]) == (413, 1)


async def test_the_same_claim_gives_the_same_ids() -> None:
    claims: list[Claim] = []

    def remember(wanted: Any) -> Claim:
        claims.append(claims[0] if claims else grant(wanted))
        return claims[-1]

    keys = ScriptedKeys(remember)
    first, again = [await post(ScriptedPublisher(), {"emails": [MAIL] * 5}, keys) for _ in range(2)]
    assert first.json() == again.json()
    assert len({each["id"] for each in first.json()["results"]}) == 5


async def test_others_have_their_turn_while_a_thousand_mails_are_looked_at() -> None:
    mail = {**MAIL, "to": [f"user{number}@example.org" for number in range(20)]}
    async with count_turns() as turns:
        answer = await post(ScriptedPublisher(), {"emails": [mail] * 1000})
        assert turns() > 15, "about one in 5 ms"
    assert answer.json()["accepted"] == 1000
