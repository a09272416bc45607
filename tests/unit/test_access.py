"""Keys: what they may do, and how long they are believed."""

import asyncio
import base64

import pytest

from shared.access import (
    AccessUnavailable,
    ApiKey,
    KeyLookup,
    derive_webhook_secret,
    digest_key,
    mint_key,
)
from shared.retrying import Unavailable
from tests.support.gateway import make_key


class Source:
    """Keys by digest; `away` makes it raise, `silent` makes it never answer."""

    def __init__(self) -> None:
        self.keys: dict[bytes, ApiKey] = {}
        self.asked = 0
        self.away = False
        self.silent = False

    async def find_key(self, digest: bytes) -> ApiKey | None:
        self.asked += 1
        if self.silent:
            await asyncio.sleep(3600)
        if self.away:
            raise Unavailable("away")
        await asyncio.sleep(0)
        return self.keys.get(digest)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lookup(source: Source, clock: Clock) -> KeyLookup:
    return KeyLookup(source, clock=clock, size=2)


def add(source: Source) -> str:
    secret = mint_key()
    source.keys[digest_key(secret)] = make_key("a@x.org")
    return secret


async def test_a_key_is_asked_for_once_and_again_after_three_seconds(
    lookup: KeyLookup, source: Source, clock: Clock
) -> None:
    secret = add(source)
    for _ in range(3):
        assert await lookup.find(secret)
    assert source.asked == 1
    clock.now += 3.1
    assert await lookup.find(secret)
    assert source.asked == 2


async def test_a_revocation_acts_within_five_seconds(lookup: KeyLookup, source: Source, clock: Clock) -> None:
    secret = add(source)
    assert await lookup.find(secret)
    source.keys.clear()
    clock.now += 5
    assert await lookup.find(secret) is None


async def test_requests_at_once_ask_once(lookup: KeyLookup, source: Source) -> None:
    secret = add(source)
    assert all(await asyncio.gather(*(lookup.find(secret) for _ in range(20))))
    assert source.asked == 1


@pytest.mark.parametrize("secret", ["", "x", "mk_short", "mk_" + "é" * 43, "mk_" + "x" * 44])
async def test_what_cannot_be_a_key_is_not_asked_for(lookup: KeyLookup, source: Source, secret: str) -> None:
    assert await lookup.find(secret) is None
    assert source.asked == 0


async def test_with_the_source_away_known_keys_go_on_for_fifteen_minutes(
    lookup: KeyLookup, source: Source, clock: Clock
) -> None:
    secret = add(source)
    assert await lookup.find(secret)
    source.away = True
    for elapsed in (4, 600, 890 - 604):
        clock.now += elapsed
        assert await lookup.find(secret)
    clock.now += 11
    with pytest.raises(AccessUnavailable):
        await lookup.find(secret)


async def test_with_the_source_away_unknown_keys_cannot_be_judged(lookup: KeyLookup, source: Source) -> None:
    source.away = True
    with pytest.raises(AccessUnavailable):
        await lookup.find(add(source))


async def test_a_source_that_hangs_holds_known_keys_up_only_once(source: Source, clock: Clock) -> None:
    from datetime import timedelta

    lookup = KeyLookup(source, clock=clock, answer_within=timedelta(seconds=0.05))
    secret = add(source)
    assert await lookup.find(secret)
    source.silent = True
    clock.now += 4
    async with asyncio.timeout(1):
        for _ in range(100):
            assert await lookup.find(secret)


async def test_a_revocation_during_an_outage_acts_when_it_ends(lookup: KeyLookup, source: Source, clock: Clock) -> None:
    secret = add(source)
    assert await lookup.find(secret)
    source.away = True
    clock.now += 4
    assert await lookup.find(secret)
    source.away = False
    source.keys.clear()
    clock.now += 2
    await lookup.find(secret)
    await asyncio.sleep(0.01)
    assert await lookup.find(secret) is None


async def test_the_cache_is_bounded(lookup: KeyLookup, source: Source) -> None:
    secrets = [add(source) for _ in range(3)]
    for secret in secrets:
        assert await lookup.find(secret)
    assert await lookup.find(secrets[0])
    assert source.asked == 4


@pytest.mark.parametrize(
    ("senders", "address", "allowed"),
    [
        (("a@x.org",), "A@X.ORG", True),
        (("a@x.org",), "b@x.org", False),
        (("*@x.org",), "any@x.org", True),
        (("*@x.org",), "any@sub.x.org", False),
        (("*@x.org",), "any@evilx.org", False),
        (("b@y.org", "*@x.org"), "any@x.org", True),
        ((), "any@x.org", False),
    ],
)
def test_allowed_senders(senders: tuple[str, ...], address: str, allowed: bool) -> None:
    assert make_key(*senders).may_send_from(address) is allowed


def test_only_a_plain_single_sender_stands_in_for_from() -> None:
    assert make_key("a@x.org").only_sender == "a@x.org"
    assert make_key("*@x.org").only_sender is None
    assert make_key("a@x.org", "b@x.org").only_sender is None


def test_keys_have_256_random_bits_and_a_prefix() -> None:
    secret = mint_key()
    assert secret.startswith("mk_")
    assert len(base64.urlsafe_b64decode(secret[3:] + "=")) == 32
    assert secret != mint_key()


def test_webhook_secrets_differ_by_account_and_master_and_stay_the_same() -> None:
    secrets = {derive_webhook_secret(master, account) for master in ("m" * 32, "n" * 32) for account in ("a", "b")}
    assert len(secrets) == 4
    secret = derive_webhook_secret("m" * 32, "a")
    assert secret in secrets
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
