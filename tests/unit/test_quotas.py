"""How much a key may ask for: the bucket by a clock in the test's hand, and what the answers say."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st

from shared.access import ApiKey, ApiScope, KeyLookup
from shared.access.keys import mint_key
from shared.authenticating import authenticate, take_mails
from shared.quotas import MAILS, REQUESTS, Quotas
from shared.settings import HttpSettings, QuotaSettings
from shared.token_bucket import TokenBucket
from shared.web import setup_web

KEY = ApiKey("k1", "default", "n", "mk_", frozenset({ApiScope.EMAILS_SEND}), ("*",), datetime.now(UTC))


class TestBucket:
    def test_it_holds_its_size_and_gets_its_rate(self) -> None:
        bucket = TokenBucket(rate=2, size=4, now=100)
        assert [bucket.take(1, 100) for _ in range(4)] == [0, 0, 0, 0]
        assert bucket.take(1, 100) == 0.5
        assert bucket.take(1, 100.5) == 0
        assert bucket.take(3, 101) == 1
        assert bucket.take(3, 102) == 0
        assert bucket.look(1000) == (4, 0)

    def test_what_is_refused_takes_nothing(self) -> None:
        bucket = TokenBucket(rate=1, size=3, now=0)
        bucket.take(2, 0)
        for _ in range(10):
            assert bucket.take(2, 0) == 1
        assert bucket.take(1, 0) == 0

    def test_more_than_it_holds_is_taken_from_a_full_one_and_waited_for_afterwards(self) -> None:
        bucket = TokenBucket(rate=10, size=20, now=0)
        assert bucket.take(100, 0) == 0
        assert bucket.look(0) == (0, 9)  # 80 are owed, and one more is needed: 8.1 s
        assert bucket.take(1, 8) == pytest.approx(0.1)
        assert bucket.take(1, 8.2) == 0
        assert bucket.take(100, 8.2) == pytest.approx(1.9)

    def test_a_clock_that_goes_back_gives_nothing(self) -> None:
        bucket = TokenBucket(rate=1, size=1, now=50)
        bucket.take(1, 50)
        assert bucket.take(1, 10) == 1
        assert bucket.take(1, 50.5) == 0.5

    @pytest.mark.parametrize(
        ("elapsed", "left"), [(0, (0, 1)), (0.25, (0, 1)), (0.5, (1, 1)), (1.9, (3, 1)), (2, (4, 0))]
    )
    def test_it_tells_what_there_is_and_when_there_is_more(self, elapsed: float, left: tuple[int, int]) -> None:
        bucket = TokenBucket(rate=2, size=4, now=0)
        bucket.take(4, 0)
        assert bucket.look(elapsed) == left

    @given(
        rate=st.floats(0.01, 1e5),
        size=st.integers(1, 10**6),
        steps=st.lists(st.tuples(st.floats(0, 100), st.integers(1, 1000)), max_size=50),
    )
    def test_nobody_ever_gets_more_than_size_and_rate_allow(
        self, rate: float, size: int, steps: list[tuple[float, int]]
    ) -> None:
        bucket, now, taken, largest = TokenBucket(rate, size, 0.0), 0.0, 0, 0
        for pause, count in steps:
            now += pause
            wait_s = bucket.take(count, now)
            if wait_s:
                now += wait_s
                assert bucket.take(count, now) == 0, "what was promised is kept"
            taken += count
            largest = max(largest, count)
            left, until_s = bucket.look(now)
            assert 0 <= left <= size
            assert until_s >= 0
            assert taken <= (max(size, largest) + rate * now) * (1 + 1e-9) + 1


def build_quotas(**fields: Any) -> tuple[Quotas, list[float]]:
    now = [0.0]
    return Quotas(QuotaSettings(**fields), clock=lambda: now[0], size=3), now


class TestQuotas:
    def test_headers_have_the_form_of_the_draft(self) -> None:
        quotas, now = build_quotas(request_rate=5, mail_rate=2.5, rate_window_s=4)
        quota = quotas.find(KEY)
        quota.take(REQUESTS)
        quota.take(MAILS, 10)
        now[0] = 0.1
        assert quota.write_headers() == [
            (b"ratelimit-policy", b'"requests";q=20;w=4, "mails";q=10;w=4'),
            (b"ratelimit", b'"requests";r=19;t=1, "mails";r=0;t=1'),
        ]

    @pytest.mark.parametrize(
        ("rates", "policy"),
        [
            ((0, 0), None),
            ((7, 0), b'"requests";q=70;w=10'),
            ((0, 0.01), b'"mails";q=1;w=100'),
        ],
    )
    def test_a_rate_of_zero_is_no_limit_and_a_slow_one_allows_one(
        self, rates: tuple[float, float], policy: bytes | None
    ) -> None:
        quotas, _ = build_quotas(request_rate=rates[0], mail_rate=rates[1])
        quota = quotas.find(KEY)
        assert dict(quota.write_headers()).get(b"ratelimit-policy") == policy
        for name, rate in zip((REQUESTS, MAILS), rates, strict=True):
            taken = [quota.take(name) for _ in range(200)]
            assert (taken[-1] is None) == (rate == 0)
            assert taken[0] is None

    def test_a_key_has_rates_of_its_own_and_keys_do_not_share(self) -> None:
        quotas, _ = build_quotas(request_rate=1, rate_window_s=1)
        fast = replace(KEY, id="k2", request_rate=3.0)
        free = replace(KEY, id="k3", request_rate=0.0)
        taken = {key.id: [quotas.find(key).take(REQUESTS) is None for _ in range(4)] for key in (KEY, fast, free)}
        assert taken == {"k1": [True] + [False] * 3, "k2": [True] * 3 + [False], "k3": [True] * 4}

    def test_the_same_key_looked_up_anew_keeps_its_quota_changed_rates_begin_anew(self) -> None:
        quotas, _ = build_quotas(request_rate=1, rate_window_s=1)
        quotas.find(KEY).take(REQUESTS)
        exhausted = quotas.find(replace(KEY)).take(REQUESTS)
        assert exhausted is not None
        assert (exhausted.policy, exhausted.rate, exhausted.retry_after_s) == (REQUESTS, 1, 1)
        assert quotas.find(replace(KEY, request_rate=2.0)).take(REQUESTS) is None

    def test_each_of_several_processes_gives_its_part(self) -> None:
        quotas, _ = build_quotas(request_rate=8, rate_window_s=2, api_processes=4)
        quota = quotas.find(KEY)
        assert dict(quota.write_headers())[b"ratelimit-policy"].startswith(b'"requests";q=4;w=2,')
        assert [quota.take(REQUESTS) is None for _ in range(5)] == [True] * 4 + [False]

    def test_the_keys_unused_for_longest_are_forgotten(self) -> None:
        quotas, _ = build_quotas(request_rate=1, rate_window_s=1)
        for number in (1, 2, 3, 1, 4):
            quotas.find(replace(KEY, id=str(number))).take(REQUESTS)
        assert quotas.find(replace(KEY, id="1")).take(REQUESTS) is not None
        assert quotas.find(replace(KEY, id="2")).take(REQUESTS) is None, "forgotten, so full again"


class OneKey:
    async def find_key(self, digest: bytes) -> ApiKey | None:
        return KEY


def build_api(**fields: Any) -> FastAPI:
    app, keys = FastAPI(), KeyLookup(OneKey())
    setup_web(app, HttpSettings(**fields), {}, body_limit=100)

    @app.get("/look")
    async def look(request: Request) -> None:
        await authenticate(request, keys, ApiScope.EMAILS_SEND)

    @app.get("/admin")
    async def administer(request: Request) -> None:
        await authenticate(request, keys, ApiScope.KEYS_ADMIN)

    @app.post("/send/{count}")
    async def send(request: Request, count: int) -> None:
        await authenticate(request, keys, ApiScope.EMAILS_SEND)
        take_mails(request, count)

    return app


class TestAnswers:
    async def test_every_answer_to_a_key_says_what_is_left_and_too_many_are_429(self) -> None:
        app = build_api(request_rate=0.5, rate_window_s=6, mail_rate=0)
        secret = {"Authorization": f"Bearer {mint_key()}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            assert "ratelimit" not in (await client.get("/look")).headers, "no key, no quota"
            answers = [await client.get(path, headers=secret) for path in ("/look", "/admin", "/look", "/look")]
        assert [answer.status_code for answer in answers] == [200, 403, 200, 429]
        left = [answer.headers["ratelimit"].partition(";t")[0] for answer in answers]
        assert left == ['"requests";r=2', '"requests";r=1', '"requests";r=0', '"requests";r=0']
        assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"requests";q=3;w=6'}
        refused = answers[-1].json()
        assert refused["type"] == "/problems/rate-limited"
        assert refused["limit"] == "requests"
        assert refused["violated-policies"] == ["requests"]
        assert refused["rate"] == 0.5
        assert refused["request_id"] == answers[-1].headers["x-request-id"]
        assert answers[-1].headers["retry-after"] == str(refused["retry_after"]) == "2"

    async def test_mails_have_a_limit_of_their_own_and_are_taken_all_or_none(self) -> None:
        app = build_api(mail_rate=1, rate_window_s=10)
        secret = {"Authorization": f"Bearer {mint_key()}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            answers = [await client.post(f"/send/{count}", headers=secret) for count in (6, 5, 4, 1)]
            assert (await client.get("/look", headers=secret)).status_code == 200
        assert [answer.status_code for answer in answers] == [200, 429, 200, 429]
        assert answers[1].json()["limit"] == "mails"
        assert '"mails";r=4;t=1' in answers[1].headers["ratelimit"]
