"""The parts of live streams, each by itself: ids, bounds, tickets, filters, and what is written."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.listening import LiveQuery
from shared.live import InvalidPosition, InvalidTicket, LiveEvent, Message, Slots, TicketOffice, TooManyStreams
from shared.live.events import read_event
from shared.live.past import PastReader
from shared.live.position import Cursor, read_position
from shared.live.queueing import Listener
from shared.live.sse import render as render_sse
from shared.live.tickets import TICKET_S
from shared.live.websocket import render as render_frame

SECRET = "a-master-secret-for-tests-only-0123456789"


@given(
    st.lists(st.lists(st.integers(0, 2**62), min_size=1, max_size=30), min_size=1, max_size=3), st.integers(0, 2**45)
)
def test_an_id_says_where_every_partition_is(offsets: list[list[int]], at_ms: int) -> None:
    flat = [offset for topic in offsets for offset in topic]
    position = read_position(str(Cursor([len(topic) for topic in offsets], flat, at_ms)))
    assert (position.at_ms, [list(topic) for topic in position.offsets]) == (at_ms, offsets)


def test_an_id_of_24_partitions_fits_into_a_line_and_moves_on_with_each_event_but_never_back() -> None:
    cursor = Cursor([12, 12], [2_000_000] * 24, 1_800_000_000_000)
    before = str(cursor)
    assert len(before) < 160
    cursor.advance(23, 2_000_007, 1_800_000_000_500)
    cursor.advance(0, 1_999_000, 1_800_000_000_000)
    assert read_position(str(cursor)).offsets == ((2_000_000,) * 12, (2_000_000,) * 11 + (2_000_007,))
    assert read_position(str(cursor)).at_ms == 1_800_000_000_500


@given(st.text(max_size=40))
def test_no_junk_is_taken_for_an_id(junk: str) -> None:
    with pytest.raises(InvalidPosition):
        read_position(junk)


@pytest.mark.parametrize("change", [lambda text: text[:-3], lambda text: text + "AAAA", lambda text: "B" + text[1:]])
def test_an_id_that_was_cut_or_changed_is_none(change: Any) -> None:
    with pytest.raises(InvalidPosition):
        read_position(change(str(Cursor([3, 3], [1, 2, 3, 4, 5, 6], 1))))


def test_partitions_that_came_since_are_read_from_their_beginning_and_other_topics_are_refused() -> None:
    position = read_position(str(Cursor([2, 1], [5, 6, 7], 1)))
    assert position.reshape([3, 1]) == [5, 6, 0, 7]
    with pytest.raises(InvalidPosition):
        position.reshape([2])


@dataclass
class Record:
    """As aiokafka gives it."""

    value: bytes | None
    topic: str = "email.sent"
    headers: tuple[tuple[str, bytes], ...] = (("ce_type", b"email.sent"), ("ce_id", b"42"))


@pytest.mark.parametrize(
    ("value", "payload"),
    [
        (b'{"account":"a","id":"1"}', b'{"ce_id":"42","account":"a","id":"1"}'),
        (b'{\n "account": "a"\r\n}', b'{"ce_id":"42","account":"a"}'),
        (b'{"account":"a","ce_id":"1"}', b'{"account":"a","ce_id":"1"}'),
    ],
)
def test_an_event_is_told_in_one_line_with_its_identity(value: bytes, payload: bytes) -> None:
    event = read_event(Record(value), 1000)
    assert event
    assert (event.type, event.account, event.payload) == ("email.sent", "a", payload)


@pytest.mark.parametrize(
    "record",
    [
        Record(b"no JSON"),
        Record(None),
        Record(b'{"account":["a"]}'),
        Record(b'{"account":"a"}', "email.sent", (("ce_type", b"a.stranger"),)),
        Record(b'{"account":"a"}', "email.requested"),
        Record(b'{"account":"%b"}' % (b"a" * 1000)),
    ],
)
def test_what_is_no_result_is_told_to_nobody(record: Record) -> None:
    assert read_event(record, 1000) is None


def test_an_event_without_account_is_the_default_ones() -> None:
    event = read_event(Record(b'{"id":"1"}'), 1000)
    assert event
    assert event.account == "default"


def make_event(**data: Any) -> LiveEvent:
    return LiveEvent("email.sent", "a", data, b"{}")


def wants_all(_event: LiveEvent) -> bool:
    return True


@pytest.mark.parametrize(("messages", "size"), [(10, 1), (4, 400)])
async def test_a_reader_that_does_not_keep_up_is_given_up_and_nothing_is_kept_for_it(messages: int, size: int) -> None:
    listener = Listener("a", wants_all, most_messages=9, most_bytes=2000)
    kept = [listener.offer(Message(str(number), "email.sent", b"x" * size)) for number in range(messages)]
    assert kept == [True] * (messages - 1) + [False]
    assert listener.ended == "dropped"
    assert await listener.take(1) == []


async def test_a_reader_that_keeps_up_gets_everything_in_order_however_much_it_is() -> None:
    listener = Listener("a", wants_all, most_messages=9, most_bytes=2000)
    taken = []
    for number in range(100):
        assert listener.offer(Message(str(number), "email.sent", b"x" * 100))
        taken += [each.id for each in await listener.take(1)]
    assert taken == [str(number) for number in range(100)]
    assert listener.ended is None


async def test_a_reader_is_woken_by_what_comes_and_by_the_end() -> None:
    listener = Listener("a", wants_all)
    assert await listener.take(0.01) == ()
    waiting = asyncio.create_task(listener.take(5))
    await asyncio.sleep(0)
    listener.offer(Message("1", "email.sent", b"{}"))
    assert [each.id for each in await waiting] == ["1"]
    waiting = asyncio.create_task(listener.take(5))
    await asyncio.sleep(0)
    listener.end("shutdown")
    assert await asyncio.wait_for(waiting, 1) == []


def test_streams_are_counted_for_each_account_and_for_the_process() -> None:
    slots = Slots(per_process=3, per_account=2)
    with slots.hold("a", "sse"), slots.hold("a", "sse"):
        with pytest.raises(TooManyStreams) as own, slots.hold("a", "sse"):
            pass
        with slots.hold("b", "sse"), pytest.raises(TooManyStreams) as all_taken, slots.hold("b", "sse"):
            pass
    assert (own.value.own, all_taken.value.own) == (True, False)
    with slots.hold("a", "sse"):
        pass


def test_a_ticket_is_good_for_a_minute_at_every_process_that_has_the_secret() -> None:
    now = 1_800_000_000.0
    here, there = TicketOffice(SECRET, clock=lambda: now), TicketOffice(SECRET, clock=lambda: now)
    written, ticket = here.issue(b"d" * 32, "emails:read")
    now += TICKET_S - 1
    assert there.read(written) == ticket
    assert (ticket.digest, ticket.scope) == (b"d" * 32, "emails:read")
    now += 1
    with pytest.raises(InvalidTicket):
        there.read(written)


@pytest.mark.parametrize("place", [0, 5, 20, 60, -1, -20])
def test_a_ticket_that_was_changed_is_none(place: int) -> None:
    office = TicketOffice(SECRET)
    written, _ = office.issue(b"d" * 32, "emails:read")
    changed = list(written)
    changed[place] = "B" if changed[place] == "A" else "A"
    with pytest.raises(InvalidTicket):
        office.read("".join(changed)[: len(written)] if place != -1 else written[:-2])


@given(st.text(max_size=80))
def test_no_junk_is_taken_for_a_ticket(junk: str) -> None:
    for text in (junk, f"lt_{junk}"):
        with pytest.raises(InvalidTicket):
            TicketOffice(SECRET).read(text)


def test_tickets_of_another_secret_or_of_a_process_without_one_are_none() -> None:
    written, _ = TicketOffice(SECRET).issue(b"d" * 32, "emails:read")
    for other in (TicketOffice("b" * 40), TicketOffice(None), TicketOffice(None)):
        with pytest.raises(InvalidTicket):
            other.read(written)


MAIL = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ({}, True),
        ({"email_id": MAIL}, True),
        ({"email_id": uuid4()}, False),
        ({"tag": "order"}, True),
        ({"tag": "ord"}, False),
        ({"mailing_id": "m1", "batch_id": "b1", "type": "email.sent", "tag": "eu"}, True),
        ({"mailing_id": "m1", "batch_id": "b2"}, False),
        ({"mailing_id": "m1", "type": "email.failed"}, False),
    ],
)
def test_an_event_has_to_match_every_filter(query: dict[str, Any], matches: bool) -> None:
    event = make_event(id=str(MAIL), tags=["order", "eu"], mailing_id="m1", batch_id="b1")
    assert LiveQuery(**query).wants(event) is matches


def test_an_event_of_no_mail_matches_no_filter() -> None:
    for query in (LiveQuery(email_id=MAIL), LiveQuery(tag="x"), LiveQuery(mailing_id="m"), LiveQuery(batch_id="b")):
        assert not query.wants(make_event(tags=None))


def test_messages_on_the_wire() -> None:
    event, beat, end = (
        Message("7", "email.sent", b'{"a":1}'),
        Message("8", "heartbeat", b"{}"),
        Message("", "dropped", b"{}"),
    )
    assert render_sse(event) == b'id: 7\nevent: email.sent\ndata: {"a":1}\n\n'
    assert render_sse(beat) == b": heartbeat\nid: 8\n\n"
    assert render_sse(end) == b"event: dropped\ndata: {}\n\n"
    assert render_frame(event) == '{"id":"7","type":"email.sent","data":{"a":1}}'
    assert render_frame(end) == '{"id":null,"type":"dropped","data":{}}'


class Bounds:
    """Where partitions begin and end."""

    def __init__(self, first: int, end: int) -> None:
        self._first, self._end = first, end

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self._first)

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self._end)


@pytest.mark.parametrize(
    ("start", "found", "has_gap"),
    [
        ([10, 90], [10, 90], False),
        ([100, 100], [100, 100], False),
        ([3, 100], [5, 100], True),  # deleted
        ([103, 100], [103, 100], False),  # another process was further than this one
        ([5000, 100], [100, 100], True),  # of another cluster, or of topics that were made anew
    ],
)
async def test_what_is_missing_before_a_place_is_known(start: list[int], found: list[int], has_gap: bool) -> None:
    places = [TopicPartition("t", 0), TopicPartition("t", 1)]
    reader = PastReader(Bounds(5, 110), 1000)
    assert await reader.find_start(places, start, [100, 100]) == (found, has_gap)


async def test_no_more_than_the_history_is_read_and_evenly_so() -> None:
    places = [TopicPartition("t", 0), TopicPartition("t", 1)]
    reader = PastReader(Bounds(0, 3000), 1000)
    assert await reader.find_start(places, [0, 1000], [3000, 2000]) == ([2250, 1750], True)
