"""What an Idempotency-Key is, and what becomes of it with each outcome of the request."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from fastapi import Request, Response

from services.gateway import idempotency
from services.gateway.bodies import read_simple
from services.gateway.composing import compose_simple
from services.gateway.idempotency import Idempotency, StillOpen, fingerprint, read_key
from services.gateway.idempotency_store import Answer, Claim, Taken, Wanted
from shared.composing.composer import Identity, compose_full, new_identity
from shared.composing.forms import read_full
from shared.database import DatabaseUnavailable
from shared.problems import Problem
from tests.support.gateway import FULL, SIMPLE, make_key

QUEUED = Response(b'{"id":"x","status":"queued"}', 202, {"location": "/v1/emails/x"}, "application/json")
KEY = make_key("*@example.com")


class ScriptedKeys:
    """Finds what it is told, and notes what became of the claim."""

    def __init__(self, found: Callable[[Wanted], Claim | Answer | Taken], *, away: bool = False) -> None:
        self._found = found
        self.away = away
        self.asked: list[Wanted] = []
        self.noted: list[Any] = []

    async def claim(self, wanted: Wanted) -> Claim | Answer | Taken:
        if self.away:
            raise DatabaseUnavailable("postgresql: gone")
        self.asked.append(wanted)
        return self._found(wanted)

    async def answer(self, claim: Claim, answer: Answer) -> None:
        if self.away:
            raise DatabaseUnavailable("postgresql: gone")
        self.noted.append(answer)

    async def release(self, claim: Claim) -> None:
        self.noted.append("released")

    async def reopen(self, claim: Claim) -> None:
        self.noted.append("reopened")


def grant(wanted: Wanted) -> Claim:
    return Claim(wanted.account, wanted.key, uuid4(), wanted.identity, is_first=True)


def make_request(*values: str, path: str = "/v1/emails") -> Request:
    headers = [(b"idempotency-key", value.encode("latin-1")) for value in values]
    return Request({"type": "http", "path": path, "headers": headers})


async def run(keys: ScriptedKeys, result: Any = QUEUED, *values: str) -> Response:
    """One request; `result` is what carrying it out answers, or raises."""

    async def act(identity: Identity) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return await Idempotency(keys).run(make_request(*(values or ('"k"',))), KEY, {"subject": "s"}, act)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ('"8e03978e-40d5-43e8-bc93-6894a57f9324"', "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        ("8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        (r'"a \"quoted\" \\ one"', r'a "quoted" \ one'),
        ("order 12/3", "order 12/3"),
        ("x" * 255, "x" * 255),
        ('"%s"' % ('\\"' * 255), '"' * 255),
    ],
)
def test_a_key_is_a_string_of_rfc_8941_or_stands_bare(value: str, key: str) -> None:
    assert read_key([value.encode()]) == key


@pytest.mark.parametrize(
    "values",
    [
        *([""], ['""'], ["  "], ["x" * 256], ['"%s"' % ("x" * 256)], ["a", "a"]),
        *(['"open'], ['"a"b'], ['"a";p=1'], ['"a\\b"'], ["schlüssel"], ["tab\tbed"], ['"tab\t"']),
    ],
)
def test_anything_else_is_malformed(values: list[str]) -> None:
    with pytest.raises(Problem) as caught:
        read_key([value.encode("latin-1") for value in values])
    assert (caught.value.status, caught.value.slug) == (400, "malformed-idempotency-key")


def test_a_request_is_the_same_however_it_is_written_and_whichever_key_it_shows() -> None:
    one = fingerprint("/email/", {"a": 1, "b": {"c": 2, "d": 3}, "token": "mk_old"})
    assert one == fingerprint("/email", {"b": {"d": 3, "c": 2}, "a": 1, "token": "mk_new"})
    assert one == fingerprint("/email", {"b": {"d": 3, "c": 2}, "a": 1})
    assert one != fingerprint("/email", {"a": 1, "b": {"c": 2, "d": 4}})
    assert one != fingerprint("/v1/emails", {"a": 1, "b": {"c": 2, "d": 3}})
    assert one != fingerprint("/email/", {"a": 1, "b": {"c": 2, "d": 3}}, is_test=True)


def test_a_body_that_cannot_be_written_again_is_refused() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    with pytest.raises(Problem) as caught:
        fingerprint("/v1/emails", {"a": deep})
    assert caught.value.status == 422


async def test_without_the_header_nobody_is_asked() -> None:
    keys = ScriptedKeys(grant, away=True)

    async def act(identity: Identity) -> Response:
        return QUEUED

    assert await Idempotency(keys).run(make_request(), KEY, {}, act) is QUEUED
    assert keys.asked == []


async def test_an_answer_is_kept() -> None:
    keys = ScriptedKeys(grant)
    assert (await run(keys)).status_code == 202
    assert keys.noted == [Answer(202, "/v1/emails/x", b'{"id":"x","status":"queued"}')]
    (wanted,) = keys.asked
    assert (wanted.account, wanted.key) == (KEY.account, "k")


async def test_a_kept_answer_is_marked_as_a_replay() -> None:
    answer = await run(ScriptedKeys(lambda _: Answer(202, "/v1/emails/x", b"{}")), RuntimeError("never reached"))
    assert (answer.status_code, answer.body) == (202, b"{}")
    assert (answer.headers["idempotent-replayed"], answer.headers["location"]) == ("true", "/v1/emails/x")


@pytest.mark.parametrize(
    ("result", "noted"),
    [
        (Problem(422, "invalid-content", "no"), "released"),
        (Problem(503, "kafka-unavailable", "no", outcome="refused"), "released"),
        (Problem(503, "outcome-unknown", "no", outcome="unknown"), "reopened"),
        (RuntimeError("a bug after who knows what"), "reopened"),
    ],
)
async def test_a_refusal_frees_the_key_and_a_doubt_keeps_its_mail(result: Exception, noted: str) -> None:
    keys = ScriptedKeys(grant)
    with pytest.raises(type(result)):
        await run(keys, result)
    assert keys.noted == [noted]


async def test_an_answer_for_now_is_given_and_the_request_stays_open() -> None:
    keys = ScriptedKeys(grant)
    assert await run(keys, StillOpen(QUEUED)) is QUEUED
    assert keys.noted == ["reopened"]


@pytest.mark.parametrize(
    ("taken", "status", "slug"),
    [
        (Taken.IN_FLIGHT, 409, "idempotency-key-in-flight"),
        (Taken.OTHER_PAYLOAD, 422, "idempotency-key-reused"),
    ],
)
async def test_a_key_that_is_taken_is_refused(taken: Taken, status: int, slug: str) -> None:
    with pytest.raises(Problem) as caught:
        await run(ScriptedKeys(lambda _: taken), RuntimeError("never reached"))
    assert (caught.value.status, caught.value.slug) == (status, slug)


async def test_without_postgres_nothing_is_done() -> None:
    with pytest.raises(Problem) as caught:
        await run(ScriptedKeys(grant, away=True), RuntimeError("never reached"))
    assert (caught.value.status, caught.value.extra["outcome"]) == (503, "refused")


async def test_a_postgres_that_stalls_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "_CLAIM_S", 0.01)

    class Stalled(ScriptedKeys):
        async def claim(self, wanted: Wanted) -> Claim | Answer | Taken:
            await asyncio.sleep(0.1)
            raise DatabaseUnavailable("postgresql: gone")

    with pytest.raises(Problem) as caught:
        await run(Stalled(grant))
    assert caught.value.status == 503
    await asyncio.sleep(0.2)  # what was left to itself complains to nobody


async def test_an_accepted_mail_is_answered_though_postgres_has_gone_meanwhile() -> None:
    keys = ScriptedKeys(grant)

    async def act(identity: Identity) -> Response:
        keys.away = True
        return QUEUED

    assert await Idempotency(keys).run(make_request("k"), KEY, {}, act) is QUEUED


async def test_a_repeat_is_carried_out_as_the_first_would_have_been() -> None:
    kept = new_identity()
    keys = ScriptedKeys(lambda wanted: replace(grant(wanted), identity=kept, is_first=False))
    seen: list[Identity] = []

    async def act(identity: Identity) -> Response:
        seen.append(identity)
        return QUEUED

    await Idempotency(keys).run(make_request("k"), KEY, {}, act)
    assert seen == [kept]


@pytest.mark.parametrize(
    "compose",
    [
        lambda identity: compose_simple(read_simple(SIMPLE), KEY, identity),
        lambda identity: compose_full(read_full(FULL, None), KEY, identity),
    ],
)
def test_the_same_identity_gives_the_same_event_in_every_byte(compose: Callable[[Identity], Any]) -> None:
    identity = new_identity()
    assert compose(identity).to_json() == compose(identity).to_json()
    assert compose(identity).to_json() != compose(new_identity()).to_json()
