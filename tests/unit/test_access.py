"""Keys: what they may do, and how long they are believed."""

import asyncio
import base64
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest

from shared.access import (
    AccessUnavailable,
    ApiKey,
    KeyLookup,
    KeyState,
    LastUses,
    derive_webhook_secret,
    digest_key,
    mint_key,
)
from shared.access.grants import find_excess, rights_of
from shared.access.keys import check_network
from shared.retrying import Unavailable
from shared.settings import QuotaSettings
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


async def test_a_key_ends_at_its_time_also_while_it_is_remembered(source: Source, clock: Clock) -> None:
    wall, used = Clock(), list[str]()
    lookup = KeyLookup(source, clock=clock, wall_clock=wall, on_use=used.append)
    secret = add(source)
    source.keys[digest_key(secret)] = replace(make_key(), expires_at=datetime.fromtimestamp(1001, UTC))
    assert await lookup.find(secret)
    source.away = True
    clock.now += 60
    assert await lookup.find(secret)
    wall.now += 1
    assert await lookup.find(secret) is None
    assert used == ["k", "k"]


def test_a_key_is_active_until_it_expires_or_is_revoked() -> None:
    key, now = make_key(), datetime.now(UTC)
    assert key.find_state(now) is KeyState.ACTIVE
    ended = replace(key, expires_at=now)
    assert (ended.find_state(now), ended.find_state(now - timedelta(seconds=1))) == (KeyState.EXPIRED, KeyState.ACTIVE)
    assert replace(ended, revoked_at=now).find_state(now) is KeyState.REVOKED


@pytest.mark.parametrize(
    ("networks", "caller", "allowed"),
    [
        ((), "8.8.8.8", True),
        ((), None, True),
        (("10.0.0.0/8",), "10.255.0.1", True),
        (("10.0.0.0/8",), "11.0.0.1", False),
        (("10.0.0.0/8",), "::1", False),
        (("10.0.0.0/8",), None, False),
        (("10.1.2.3", "2001:db8::/32"), "2001:db8:7::1", True),
        (("::ffff:10.0.0.0/104",), "10.1.1.1", True),
        (("::/0",), "10.1.1.1", False),
    ],
)
def test_networks_of_a_key(networks: tuple[str, ...], caller: str | None, allowed: bool) -> None:
    key = replace(make_key(), networks=tuple(check_network(each) for each in networks))
    assert key.may_call_from(ip_address(caller) if caller else None) is allowed


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "10.0.0.0/8, 11.0.0.0/8", "office"])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match="is no network"):
        check_network(text)


_NOW = datetime.now(UTC)
_USUAL = QuotaSettings(request_rate=100, mail_rate=50)


@pytest.mark.parametrize(
    ("held", "wanted", "fields"),
    [
        ({}, {}, []),
        ({}, {"networks": ("10.0.0.0/8",), "test": True, "expires_at": _NOW, "senders": ()}, []),
        ({}, {"scopes": frozenset({"operate", "emails:send"})}, ["scopes"]),
        ({"senders": ("*@x.org",)}, {"senders": ("A@X.org", "*@x.ORG")}, []),
        ({"senders": ("*@x.org",)}, {"senders": ("*",)}, ["senders"]),
        ({"senders": ("*@x.org",)}, {"senders": ("*@sub.x.org",)}, ["senders"]),
        ({"senders": ("a@x.org",)}, {"senders": ("*@x.org",)}, ["senders"]),
        ({"senders": ("*",)}, {"senders": ("*", "*@y.org", "b@z.org")}, []),
        ({"networks": ("10.0.0.0/8",)}, {"networks": ()}, ["networks"]),
        ({"networks": ("10.0.0.0/8",)}, {"networks": ("10.7.0.0/16", "10.0.0.0/8")}, []),
        ({"networks": ("10.0.0.0/8",)}, {"networks": ("0.0.0.0/0",)}, ["networks"]),
        ({"networks": ("::/0",)}, {"networks": ("10.0.0.0/8",)}, ["networks"]),
        ({"test": True}, {}, ["test"]),
        ({"test": True}, {"test": True}, []),
        ({"expires_at": _NOW}, {}, ["expires_at"]),
        ({"expires_at": _NOW}, {"expires_at": _NOW + timedelta(seconds=1)}, ["expires_at"]),
        ({"expires_at": _NOW}, {"expires_at": _NOW}, []),
        ({}, {"request_rate": 100, "mail_rate": 49.5}, []),
        ({}, {"request_rate": 101, "mail_rate": 50.5}, ["request_rate", "mail_rate"]),
        ({}, {"request_rate": 0}, ["request_rate"]),
        ({"mail_rate": 20}, {"mail_rate": 20}, []),
        ({"mail_rate": 20}, {}, ["mail_rate"]),
        ({"mail_rate": 70}, {}, []),
        ({"mail_rate": 0}, {"mail_rate": 0}, []),
        ({"mail_rate": 0}, {"mail_rate": 1e6}, []),
    ],
)
def test_no_key_gives_what_it_does_not_have(held: dict[str, Any], wanted: dict[str, Any], fields: list[str]) -> None:
    def make(rights: dict[str, Any]) -> ApiKey:
        networks = tuple(check_network(each) for each in rights.get("networks", ()))
        return replace(make_key("a@x.org"), **{**rights, "networks": networks})

    holder, other = make(held), make({"senders": (), **wanted})
    assert [each.field for each in find_excess(rights_of(other), rights_of(holder), _USUAL)] == fields


class Keeper:
    """Where last uses are written; `away` makes it raise."""

    def __init__(self) -> None:
        self.written: list[dict[str, float]] = []
        self.away = False

    async def note_uses(self, used: dict[str, float]) -> None:
        if self.away:
            raise Unavailable("away")
        self.written.append(used)


async def test_uses_are_written_together_and_kept_while_nothing_can_be_written() -> None:
    keeper = Keeper()
    uses = LastUses(keeper, write_every_s=0.01)
    for key_id in ("a", "b", "a"):
        uses.note(key_id)
    keeper.away = True
    await uses.start()
    await asyncio.sleep(0.05)
    uses.note("c")
    keeper.away = False
    await asyncio.sleep(0.05)
    await uses.stop()
    assert [sorted(each) for each in keeper.written] == [["a", "b", "c"]]
    assert all(abs(at - time.time()) < 5 for at in keeper.written[0].values())


async def test_a_stop_writes_what_is_left_and_does_not_wait_for_a_database_that_is_away() -> None:
    keeper = Keeper()
    uses = LastUses(keeper)
    await uses.start()
    uses.note("a")
    await uses.stop()
    assert [list(each) for each in keeper.written] == [["a"]]
    keeper.away = True
    uses.note("b")
    await uses.stop()


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
