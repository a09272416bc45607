"""Links to unsubscribe: who can make them, what they lead to, and where they may lead."""

from ipaddress import ip_address
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.scheduler.settings import ApiSettings, WorkerSettings
from services.scheduler.unsubscribing.lane_links import LaneLinks, LinksUnavailable
from services.scheduler.unsubscribing.lane_store import LinkedMailing
from services.scheduler.unsubscribing.links import LINK_ROOM, URL_LIMIT, InvalidLink, Link, LinkMaker, LinkReader
from services.scheduler.unsubscribing.page import Sight, ask, confirm
from services.scheduler.unsubscribing.settings import check_public_url
from services.scheduler.unsubscribing.throttle import WINDOW_S, Throttle

SECRET, URL = "s" * 32, "https://mail.example.com"
READER = LinkReader(SECRET)
ACCOUNTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


def make(link: Link, secret: str = SECRET) -> str:
    url = LinkMaker(secret, URL).begin(link.account, link.mailing, trial=link.trial)(link.recipient)
    return url.removeprefix(f"{URL}/unsubscribe/")


@given(ACCOUNTS, st.uuids(), st.uuids(), st.booleans())
def test_a_link_says_whose_it_is_and_is_the_same_whenever_it_is_made(
    account: str, mailing: UUID, recipient: UUID, trial: bool
) -> None:
    link = Link(account, mailing, recipient, trial)
    token = make(link)
    assert READER.read(token) == link
    assert token == make(link)
    assert len(token) + len('"unsubscribe_url":"",/unsubscribe/') + URL_LIMIT <= LINK_ROOM


def test_no_link_can_be_made_or_changed_by_others() -> None:
    link = Link("shop", uuid4(), uuid4())
    token = make(link)
    for position, char in enumerate(token):
        other = token[:position] + ("A" if char != "A" else "B") + token[position + 1 :]
        try:
            assert READER.read(other) == link, "the last character has bits that stand for nothing"
            assert position == len(token) - 1
        except InvalidLink:
            pass
    broken = [
        "",
        "x",
        token[:-4],
        token + "AAAA",
        make(link, "o" * 32),
        "ü" * 80,
        "A" * 100_000,
        "====",
        "%00",
        "!" * 60,
    ]
    for each in broken:
        with pytest.raises(InvalidLink):
            READER.read(each)


@pytest.mark.parametrize(
    "url",
    [
        "https://mail.example.com",
        "https://mail.example.com:8443/news/",
        "http://localhost:8000",
        "http://127.0.0.1:1",
        "http://[::1]/",
    ],
)
def test_links_lead_to_https_or_to_this_machine(url: str) -> None:
    assert check_public_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        *("http://mail.example.com", "mail.example.com", "ftp://x.org", "https://", "https://u:p@x.org"),
        *("https://x.org/?a=b", "https://x.org/#a", "https://x.org/ a", 'https://x.org/"', "https://x.org/\\"),
        *("https://ü.org", "https://x.org/" + "a" * 200),
    ],
)
def test_and_nowhere_else(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        check_public_url(url)


def test_without_a_secret_no_process_begins_that_is_to_make_links() -> None:
    for kind in (ApiSettings, WorkerSettings):
        with pytest.raises(ValidationError, match="MILENA_MASTER_SECRET"):
            kind(public_url=URL, master_secret=None)
        assert kind(public_url=None, master_secret=None).make_links() is None


def test_a_page_shows_the_sender_as_text_and_runs_nothing() -> None:
    sender = '"<script>alert(1)</script>" <news@example.com>'
    for page in (ask(Sight(sender)), confirm(Sight(sender)), ask(Sight(None))):
        assert "<script" not in page
    assert "&lt;news@example.com&gt;" in ask(Sight(sender))
    assert "<form" in ask(Sight(None))
    assert "<form" not in confirm(Sight(None))


def test_an_address_is_heard_so_often_and_its_neighbours_as_well() -> None:
    throttle = Throttle(2)
    one, other = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    assert [throttle.take(one, 0) for _ in range(2 * WINDOW_S)] == [0] * 2 * WINDOW_S
    assert (throttle.take(one, 0), throttle.take(other, 0)) == (1, 0)
    assert throttle.take(one, 1) == 0
    home = [ip_address(f"2001:db8:0:1::{number}") for number in range(2 * WINDOW_S + 1)]
    assert [throttle.take(each, 0) for each in home][-1] == 1
    assert throttle.take(ip_address("2001:db8:0:2::1"), 0) == 0


class Lanes:
    """Lane 1 belongs to a mailing that says how to unsubscribe, no other does."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.mailing = LinkedMailing("shop", uuid4())

    async def find(self, lanes: Any) -> dict[int, LinkedMailing]:
        self.asked.append(sorted(lanes))
        return {1: self.mailing} if 1 in lanes else {}


async def test_a_lane_is_looked_up_once() -> None:
    lanes = Lanes()
    links = LaneLinks(lanes, LinkMaker(SECRET, URL))  # type: ignore[arg-type]
    for _ in range(2):
        found = await links.load([1, 2, 1])
        assert set(found) == {1}
        recipient = uuid4()
        token = found[1](recipient).rpartition("/")[2]
        assert READER.read(token) == Link("shop", lanes.mailing.id, recipient)
    assert lanes.asked == [[1, 2]]
    assert await links.find_barred([1, 2]) == set()


async def test_where_links_lead_nowhere_their_mail_waits_and_other_mail_goes() -> None:
    links = LaneLinks(Lanes(), None)  # type: ignore[arg-type]
    assert await links.find_barred([1, 2]) == {1}
    assert await links.load([2]) == {}
    with pytest.raises(LinksUnavailable, match="MILENA_PUBLIC_URL"):
        await links.load([1, 2])
