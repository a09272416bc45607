"""The conversation with a relay, its replies driven by hand: every parcel ends once, and never as what it is not."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.sender.classify import Reply
from services.sender.conversation import Abilities, Conversation, Timeouts
from services.sender.parcel import Ending, Parcel

PIPELINED = Abilities(pipelining=True, utf8=True)
LOCK_STEP = Abilities(pipelining=False)


class Wire(asyncio.Transport):
    """Keeps what is written; a closed one tells its protocol when asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.ended = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "written after the end"
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, Conversation)

    @property
    def sent(self) -> bytes:
        return b"".join(self.writes)


class Line:
    """One conversation, what waits for it, and what has become of its parcels."""

    def __init__(self, abilities: Abilities = PIPELINED, timeouts: Timeouts | None = None) -> None:
        self.queue: list[Parcel] = []
        self.done: list[Parcel] = []
        self.untouched: list[Parcel] = []
        self.idle = 0
        self.lost = 0
        self.used_up = False
        self.wire = Wire()
        self.conversation = Conversation(
            "relay:25", abilities, timeouts or Timeouts(), self._next, self._on_idle, self._on_lost
        )
        self.conversation.take_over(self.wire)

    def _next(self) -> Parcel | None:
        return self.queue.pop(0) if self.queue else None

    def _on_idle(self, conversation: Conversation) -> None:
        self.idle += 1
        if self.used_up:
            conversation.quit()

    def _on_lost(self, conversation: Conversation, untouched: list[Parcel]) -> None:
        self.lost += 1
        self.untouched += untouched

    def begin(self, *parcels: Parcel) -> None:
        self.queue += parcels[1:]
        self.conversation.begin(parcels[0])

    def say(self, *replies: str) -> None:
        """Replies as they come from the relay, in one read."""
        self.feed("".join(f"{each}\r\n" for each in replies).encode())

    def feed(self, data: bytes) -> None:
        self.conversation.data_received(data)
        self._settle()

    def drop(self) -> None:
        """The relay closes the connection."""
        self.wire.ended = self.wire.ended or "dropped"
        self._settle()

    def wait(self, seconds: float) -> None:
        """So much time goes by without a word from the relay."""
        self.conversation.check(time.monotonic() + seconds)
        self._settle()

    def take(self) -> bytes:
        """What has been written since the last call, which must be at most one write."""
        assert len(self.wire.writes) <= 1
        written, self.wire.writes = self.wire.sent, []
        return written

    def parcel(self, number: int = 1, recipients: int = 1, **options: object) -> Parcel:
        allowed = options.pop("may_write", True)
        made = Parcel(
            f"from{number}@x.org".encode(),
            [f"to{number}.{n}@y.org".encode() for n in range(recipients)],
            f"Subject: {number}\r\n\r\nbody {number}\r\n".encode(),
            lambda: bool(allowed),
            self.done.append,
        )
        for name, value in options.items():
            setattr(made, name, value)
        return made

    def _settle(self) -> None:
        if self.wire.ended and not self.lost:
            self.conversation.connection_lost(None)


OPENED = ("250 2.1.0 ok", "250 2.1.5 ok", "354 go on")
QUEUED = "250 2.0.0 queued as A1"


def codes(parcel: Parcel) -> list[int | None]:
    return [each.code if each else None for each in parcel.replies]


# --- the usual way ---


def test_an_envelope_leaves_in_one_write() -> None:
    line = Line()
    line.begin(line.parcel(recipients=2))
    assert line.take() == b"MAIL FROM:<from1@x.org>\r\nRCPT TO:<to1.0@y.org>\r\nRCPT TO:<to1.1@y.org>\r\nDATA\r\n"


def test_a_body_its_dot_and_the_next_envelope_leave_in_one_write() -> None:
    line = Line()
    first, second = line.parcel(1), line.parcel(2)
    line.begin(first, second)
    line.take()
    line.say(*OPENED)
    assert line.take() == (
        b"Subject: 1\r\n\r\nbody 1\r\n.\r\nMAIL FROM:<from2@x.org>\r\nRCPT TO:<to2.0@y.org>\r\nDATA\r\n"
    )
    line.say(QUEUED, *OPENED)
    assert line.take() == b"Subject: 2\r\n\r\nbody 2\r\n.\r\n"
    assert (first.ending, first.content_answered, codes(first)) == (Ending.ANSWERED, True, [250])
    assert first.replies == [Reply(250, "2.0.0 queued as A1")]
    assert first.relay == "relay:25"
    assert line.idle == 0
    line.say(QUEUED)
    assert line.done == [first, second]
    assert line.idle == 1


def test_replies_may_be_split_at_any_byte() -> None:
    stream = "".join(f"{each}\r\n" for each in (*OPENED, "250-2.0.0 two", "250 lines", *OPENED, QUEUED)).encode()
    for cut in range(1, len(stream)):
        line = Line()
        line.begin(line.parcel(1), line.parcel(2))
        line.feed(stream[:cut])
        line.feed(stream[cut:])
        assert [codes(each) for each in line.done] == [[250], [250]]
        assert str(line.done[0].replies[0]) == "250 2.0.0 two lines"
    line = Line()
    line.begin(line.parcel(1), line.parcel(2))
    for byte in stream:
        line.feed(bytes([byte]))
    assert len(line.done) == 2


def test_lock_step_asks_one_thing_at_a_time() -> None:
    line = Line(LOCK_STEP)
    parcel = line.parcel(recipients=2)
    line.begin(parcel, line.parcel(2))
    steps = [
        (b"MAIL FROM:<from1@x.org>\r\n", "250 ok"),
        (b"RCPT TO:<to1.0@y.org>\r\n", "550 5.1.1 no"),
        (b"RCPT TO:<to1.1@y.org>\r\n", "250 ok"),
        (b"DATA\r\n", "354 go on"),
        (b"Subject: 1\r\n\r\nbody 1\r\n.\r\n", QUEUED),
        (b"MAIL FROM:<from2@x.org>\r\n", "550 5.7.1 no"),
        (b"RSET\r\n", "250 ok"),
    ]
    for command, reply in steps:
        assert line.take() == command
        line.say(reply)
    assert codes(parcel) == [550, 250]
    assert codes(line.done[1]) == [550]
    assert line.idle == 1


def test_lock_step_ends_a_mail_whose_recipients_are_all_refused() -> None:
    line = Line(LOCK_STEP)
    line.begin(line.parcel(recipients=2))
    line.say("250 ok")
    line.say("550 5.1.1 no")
    line.say("450 4.2.1 later")
    assert line.wire.writes[-1] == b"RSET\r\n"
    assert codes(line.done[0]) == [550, 450]
    assert not line.done[0].content_answered


# --- refusals ---


def test_a_refused_mail_command_refuses_all_recipients_and_spares_the_next_mail() -> None:
    line = Line()
    line.begin(line.parcel(1, recipients=2), line.parcel(2))
    line.take()
    line.say("550 5.7.1 sender refused", "503 need MAIL", "503 need MAIL", "503 need RCPT")
    assert line.done[0].replies == [Reply(550, "5.7.1 sender refused")] * 2
    assert not line.done[0].content_answered
    assert line.take() == b"RSET\r\nMAIL FROM:<from2@x.org>\r\nRCPT TO:<to2.0@y.org>\r\nDATA\r\n"
    line.say("250 reset", *OPENED)
    line.say(QUEUED)
    assert codes(line.done[1]) == [250]


def test_a_refused_recipient_keeps_its_own_reply() -> None:
    line = Line()
    line.begin(line.parcel(recipients=3))
    line.say("250 ok", "250 ok", "550 5.1.1 no such user", "250 ok", "354 go on")
    line.say(QUEUED)
    assert codes(line.done[0]) == [250, 550, 250]
    assert line.done[0].content_answered


def test_a_354_without_any_recipient_is_answered_by_a_single_dot() -> None:
    line = Line()
    line.begin(line.parcel(1), line.parcel(2))
    line.take()
    line.say("250 ok", "550 5.1.1 no such user", "354 go on")
    assert codes(line.done[0]) == [550]
    assert not line.done[0].content_answered
    assert line.take() == b".\r\nMAIL FROM:<from2@x.org>\r\nRCPT TO:<to2.0@y.org>\r\nDATA\r\n"
    line.say("554 5.5.1 no valid recipients", *OPENED)
    line.say(QUEUED)
    assert codes(line.done[1]) == [250]
    assert b"body 1" not in line.wire.sent


def test_a_relay_that_wants_the_content_of_a_mail_it_refused_gets_not_even_a_dot() -> None:
    line = Line()
    first, second = line.parcel(1), line.parcel(2)
    line.begin(first, second)
    line.take()
    line.say("550 5.7.1 sender refused", "250 ok", "354 go on")
    assert codes(first) == [550]
    assert line.take() == b""
    assert line.lost == 1
    assert second.ending is None


@pytest.mark.parametrize("data_reply", ["451 4.3.0 later", "554 5.5.1 no valid recipients"])
def test_a_refused_data_command_ends_the_mail_and_spares_the_next(data_reply: str) -> None:
    line = Line()
    line.begin(line.parcel(1), line.parcel(2))
    line.take()
    line.say("250 ok", "250 ok", data_reply)
    assert codes(line.done[0]) == [int(data_reply[:3])]
    assert line.take().startswith(b"RSET\r\nMAIL FROM:<from2@x.org>")
    line.say("250 reset", *OPENED)
    line.say(QUEUED)
    assert codes(line.done[1]) == [250]


@pytest.mark.parametrize("dot_reply", ["451 4.3.0 later", "554 5.6.0 content refused"])
def test_a_refused_content_is_an_ordinary_answer(dot_reply: str) -> None:
    line = Line()
    line.begin(line.parcel(1), line.parcel(2))
    line.say(*OPENED)
    line.say(dot_reply, *OPENED)
    assert line.done[0].content_answered
    assert codes(line.done[0]) == [int(dot_reply[:3])]
    line.say(QUEUED)
    assert codes(line.done[1]) == [250]


# --- broken connections ---

BEFORE_CONTENT = [(), ("250 ok",), ("250 ok", "250 ok"), ("250 ok", "250 ok", "250 ok")]


def break_off(line: Line, how: str) -> None:
    if how == "drop":
        line.drop()
    elif how == "hang":
        line.wait(11)
    elif how == "421":
        line.say("421 4.3.2 closing")
    elif how == "garbage":
        line.say("HTTP/1.1 400 Bad Request")
    else:
        line.feed(how.encode())


BREAKS = [
    "drop",
    "hang",
    "421",
    "garbage",
    "25\r\n",
    "250",
    "\r\n",
    "999 x\r\n",
    " 250 x\r\n",
    "2500 x\r\n",
    "²50 x\r\n",
    "100 x\r\n",
    "250-x\r\n" * 2000,
]


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("replies", BEFORE_CONTENT)
def test_broken_off_before_the_content_is_known_not_to_be_sent(replies: tuple[str, ...], how: str) -> None:
    line = Line()
    parcel = line.parcel(recipients=2)
    line.begin(parcel)
    if replies:
        line.say(*replies)
    break_off(line, how)
    line.drop()  # where only half a reply came
    assert b"body" not in line.wire.sent
    answered = bool(replies)
    if how == "421" and len(replies) == 3:  # it answers DATA
        assert (parcel.ending, codes(parcel)) == (Ending.ANSWERED, [421, 421])
    else:
        assert parcel.ending is (Ending.INTERRUPTED if answered else None)
    assert line.untouched == ([] if answered else [parcel])
    assert not parcel.content_answered
    assert line.lost == 1


def test_a_parcel_that_lost_its_connection_twice_is_interrupted() -> None:
    line = Line()
    parcel = line.parcel()
    line.begin(parcel)
    line.drop()
    assert line.untouched == [parcel]
    again = Line()
    again.begin(parcel)
    again.drop()
    assert again.untouched == []
    assert (parcel.ending, parcel.replies) == (Ending.INTERRUPTED, [])
    assert parcel.diagnostic == "the relay closed the connection"


@pytest.mark.parametrize("how", [each for each in BREAKS if each != "421"])
def test_broken_off_after_the_content_nobody_knows(how: str) -> None:
    line = Line()
    first, second = line.parcel(1, recipients=2), line.parcel(2)
    line.begin(first, second)
    line.say("250 ok", "250 ok", "550 5.1.1 no", "354 go on")
    if how == "hang":
        line.wait(299)
        assert not line.wire.ended
        line.wait(301)
    else:
        break_off(line, how)
    line.drop()
    assert first.ending is Ending.UNANSWERED
    assert codes(first) == [None, 550]  # what is known stays known
    assert second.ending is None
    assert line.untouched == [second]


def test_a_421_after_the_content_is_an_answer_and_gives_the_next_mail_back() -> None:
    line = Line()
    first, second = line.parcel(1), line.parcel(2)
    line.begin(first, second)
    line.say(*OPENED)
    line.say("421 4.3.2 shutting down")
    assert (first.ending, codes(first), first.content_answered) == (Ending.ANSWERED, [421], True)
    assert line.untouched == [second]
    assert line.wire.ended


@pytest.mark.parametrize(
    ("before", "wanted"), [((), [421, 421]), (("250 ok",), [421]), (("250 ok", "250 ok"), [None, 421])]
)
def test_a_421_is_kept_as_the_reply_it_is(before: tuple[str, ...], wanted: list[int | None]) -> None:
    line = Line()
    line.begin(line.parcel(recipients=2, requeues=1))
    line.say(*before, "421 4.7.0 too many connections")
    assert codes(line.done[0]) == wanted
    assert line.done[0].diagnostic == "421 4.7.0 too many connections"


def test_a_connection_that_takes_no_further_mail_costs_the_mail_no_attempt() -> None:
    line = Line()
    first, second = line.parcel(1), line.parcel(2)
    line.begin(first, second)
    line.say(*OPENED)
    line.say(QUEUED, "421 4.7.0 too many messages in this connection")
    assert codes(first) == [250]
    assert (line.untouched, second.ending, second.replies) == ([second], None, [])
    assert line.conversation.farewell == Reply(421, "4.7.0 too many messages in this connection")
    again = Line()
    again.begin(second)
    again.say("421 4.7.0 too many messages from you")
    assert (second.ending, codes(second), again.untouched) == (Ending.INTERRUPTED, [421], [])


def test_a_refused_mail_keeps_its_reply_when_the_connection_breaks_behind_it() -> None:
    line = Line()
    line.begin(line.parcel(recipients=2))
    line.say("550 5.7.1 no")
    line.drop()
    assert (line.done[0].ending, codes(line.done[0])) == (Ending.INTERRUPTED, [550, 550])


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_replies_out_of_step_are_trusted_by_nobody(position: int) -> None:
    line = Line()
    line.begin(line.parcel())
    replies = [*OPENED, QUEUED]
    replies[position] = "250 ok" if position == 2 else "354 go on"
    for each in replies[: position + 1]:
        line.say(each)
    assert line.wire.ended == "aborted"
    assert "not SMTP" in (line.done[0].diagnostic if line.done else "not SMTP")
    assert not any(each.content_answered for each in line.done)


def test_an_endless_line_is_cut_off() -> None:
    line = Line()
    line.begin(line.parcel())
    for _ in range(70):
        if not line.wire.ended:
            line.feed(b"2" * 1000)
    assert line.wire.ended == "aborted"


def test_an_over_long_reply_is_trusted_by_nobody_though_it_has_an_end() -> None:
    line = Line()
    parcel = line.parcel()
    line.begin(parcel)
    line.say(*OPENED)
    line.feed(b"250-" + b"x" * 60_000 + b"\r\n250-" + b"y" * 10_000 + b"\r\n250 ok\r\n")
    assert (line.wire.ended, parcel.ending) == ("aborted", Ending.UNANSWERED)


def test_an_unasked_reply_ends_an_idle_connection() -> None:
    line = Line()
    line.say("421 4.4.2 idle too long")
    assert line.wire.ended
    assert line.lost == 1


def test_what_comes_after_the_end_is_not_read() -> None:
    line = Line()
    line.begin(line.parcel(1), line.parcel(2))
    line.say(*OPENED)
    line.conversation.data_received(b"421 4.3.2 bye\r\n250 ok\r\n")
    line.conversation.data_received(b"250 ok\r\n354 go on\r\n")
    line.drop()
    assert [codes(each) for each in line.done] == [[421]]
    assert len(line.untouched) == 1
    assert b"body 2" not in line.wire.sent


def test_content_that_could_not_be_written_is_known_not_to_be_sent() -> None:
    line = Line()
    parcel = line.parcel()
    line.begin(parcel)
    line.wire.ended = "closed"  # the transport is going, connection_lost has not been called yet
    line.conversation.data_received(b"250 ok\r\n250 ok\r\n354 go on\r\n")
    line.drop()
    assert parcel.ending is Ending.INTERRUPTED


# --- the lease, SMTPUTF8, idleness ---


def test_without_a_lease_nothing_is_written_and_the_connection_dropped() -> None:
    line = Line()
    parcel, second = line.parcel(1, may_write=False), line.parcel(2)
    line.begin(parcel, second)
    line.say(*OPENED)
    assert parcel.ending is Ending.FORBIDDEN
    assert line.wire.ended == "aborted"
    assert b"body" not in line.wire.sent
    assert line.queue == [second]
    assert line.done == [parcel]


def test_an_international_address_is_announced() -> None:
    line = Line()
    line.begin(line.parcel(needs_utf8=True))
    assert line.take().startswith(b"MAIL FROM:<from1@x.org> SMTPUTF8\r\n")


def test_without_smtputf8_it_is_refused_unasked_and_others_go_on() -> None:
    line = Line(Abilities(pipelining=True, utf8=False))
    odd, plain = line.parcel(1, recipients=2, needs_utf8=True), line.parcel(2)
    line.begin(odd, line.parcel(3, needs_utf8=True), plain)
    assert line.take().startswith(b"MAIL FROM:<from2@x.org>\r\n")
    assert (odd.ending, codes(odd)) == (Ending.ANSWERED, [553, 553])
    line.say(*OPENED)
    line.say(QUEUED)
    assert [codes(each) for each in line.done] == [[553, 553], [553], [250]]


def test_an_international_header_is_announced_as_eight_bit_where_the_relay_speaks_of_it() -> None:
    for eight_bit, parameters in ((True, b" BODY=8BITMIME SMTPUTF8"), (False, b" SMTPUTF8")):
        line = Line(Abilities(pipelining=True, utf8=True, eight_bit=eight_bit))
        line.begin(line.parcel(needs_utf8=True, content="To: jörg@x.org\r\n\r\nx\r\n".encode()))
        assert line.take().startswith(b"MAIL FROM:<from1@x.org>" + parameters + b"\r\n")


@pytest.mark.parametrize("size", [0, 30, 1000])
def test_the_size_is_announced_to_a_relay_that_asks_for_it(size: int) -> None:
    line = Line(Abilities(pipelining=True, size=size))
    parcel = line.parcel()
    line.begin(parcel)
    assert line.take().startswith(b"MAIL FROM:<from1@x.org> SIZE=%d\r\n" % len(parcel.content))


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_mail_beyond_the_size_is_refused_unasked_and_others_go_on(pipelining: bool) -> None:
    line = Line(Abilities(pipelining=pipelining, size=30))
    large, small = line.parcel(1, recipients=2), line.parcel(3)
    large.content = b"..dots are no octets\r\n..of the mail\r\n"
    just = line.parcel(2, content=b"..dots are none of it\r\n..okay\r\n")
    assert len(just.content) > 30
    line.begin(large, just, small)
    assert (large.ending, codes(large), large.content_answered) == (Ending.ANSWERED, [552, 552], False)
    assert str(large.replies[0]) == "552 5.3.4 the mail has 35 octets, the relay takes 30"
    assert line.take().startswith(b"MAIL FROM:<from2@x.org> SIZE=%d\r\n" % len(just.content))


@pytest.mark.parametrize(
    ("announced", "size"),
    [({}, None), ({"size": ""}, 0), ({"size": "0"}, 0), ({"size": "10240000"}, 10_240_000), ({"size": "1e6"}, 0)],
)
def test_what_ehlo_says_is_what_the_relay_can(announced: dict[str, str], size: int | None) -> None:
    assert Abilities.read(announced) == Abilities(size=size)
    everything = dict.fromkeys(("pipelining", "smtputf8", "8bitmime"), "")
    assert Abilities.read(announced | everything) == Abilities(pipelining=True, utf8=True, eight_bit=True, size=size)


def test_an_enhanced_code_on_every_line_is_kept_once_and_no_control_character_is() -> None:
    line = Line()
    line.begin(line.parcel())
    line.say("250 ok", "550-5.1.1 no\x00such\x1b[31m user", "550-5.1.1 here", "550 5.7.1 nor there", "503 no")
    assert line.done[0].replies == [Reply(550, "5.1.1 no such [31m user here 5.7.1 nor there")]


def test_an_idle_connection_says_quit_and_takes_no_more_mail() -> None:
    line = Line()
    line.wait(29)
    assert line.take() == b""
    line.wait(31)
    assert line.take() == b"QUIT\r\n"
    assert line.conversation.closing
    line.say("221 bye")
    assert line.wire.ended == "closed"
    assert line.lost == 1


def test_a_connection_that_has_carried_its_last_mail_awaits_the_answer_to_quit_for_2_s() -> None:
    for polite in (True, False):
        line = Line()
        line.used_up = True
        line.begin(line.parcel())
        line.say(*OPENED)
        line.wire.writes.clear()
        line.say(QUEUED)
        assert line.take() == b"QUIT\r\n"
        line.wait(1.9)
        assert (line.wire.ended, line.conversation.silent_s(time.monotonic() + 5)) == ("", 0.0)
        if polite:
            line.say("221 bye")
        else:
            line.wait(2.1)
        assert (line.wire.ended, line.lost) == ("closed" if polite else "aborted", 1)


def test_a_connection_that_waits_for_rset_only_says_quit_behind_it() -> None:
    line = Line()
    line.begin(line.parcel())
    assert line.conversation.at_work
    line.say("250 ok", "550 5.1.1 no such user", "503 no")
    assert not line.conversation.at_work
    line.wire.writes.clear()
    line.conversation.quit()
    assert line.take() == b"QUIT\r\n"
    line.say("250 reset")
    assert not line.wire.ended
    line.say("221 bye")
    assert (line.wire.ended, line.lost, line.idle) == ("closed", 1, 0)


def test_without_pipelining_quit_waits_for_the_answer_to_rset() -> None:
    line = Line(LOCK_STEP)
    line.begin(line.parcel())
    line.say("250 ok")
    line.wire.writes.clear()
    line.say("550 5.1.1 no such user")
    assert line.take() == b"RSET\r\n"
    line.conversation.quit()
    assert line.take() == b""
    line.say("250 reset")
    assert line.take() == b"QUIT\r\n"
    line.say("221 bye")
    assert (line.wire.ended, line.lost, line.idle) == ("closed", 1, 0)


def test_a_421_to_rset_ends_a_connection_that_was_to_quit() -> None:
    line = Line(LOCK_STEP)
    line.begin(line.parcel())
    line.say("250 ok")
    line.say("550 5.1.1 no such user")
    line.conversation.quit()
    line.wire.writes.clear()
    line.say("421 4.7.0 bye")
    assert line.take() == b""
    assert (line.wire.ended, line.lost) == ("closed", 1)


def test_a_quit_without_an_answer_is_not_waited_for() -> None:
    line = Line()
    line.wait(31)
    line.wait(11)
    assert line.wire.ended == "aborted"


def test_a_slow_final_reply_does_not_slow_the_next_mails_patience() -> None:
    line = Line()
    line.begin(line.parcel(1), line.parcel(2))
    line.say(*OPENED)
    line.say(QUEUED)
    line.wait(11)
    assert line.wire.ended == "aborted"
    assert len(line.untouched) == 1


# --- whatever a relay says ---

words = st.sampled_from(
    [
        "250 ok",
        "250-more",
        "354 go",
        "450 4 later",
        "550 5 no",
        "421 bye",
        "221 x",
        "junk",
        "",
        "251 x",
        "553 y",
        "DROP",
        "HANG",
        "QUIT",
    ]
)
actions = st.lists(words | st.sampled_from(["250 ok", "354 go"]), max_size=40)


def run(line: Line, parcels: list[Parcel], script: list[str], cut: Callable[[bytes], list[bytes]]) -> None:
    line.begin(*parcels)
    for word in script:
        if line.lost:
            break
        if word == "DROP":
            line.drop()
        elif word == "HANG":
            line.wait(1000)
        elif word == "QUIT":
            if not line.conversation.at_work and not line.conversation.closing:
                line.conversation.quit()
        else:
            for piece in cut(f"{word}\r\n".encode()):
                if not line.lost:
                    line.feed(piece)
    line.drop()


@settings(max_examples=100, deadline=None)
@given(actions, st.booleans(), st.integers(1, 3), st.booleans(), st.integers(0, 20))
def test_every_parcel_ends_exactly_once(
    script: list[str], pipelining: bool, recipients: int, bytewise: bool, forbidden: int
) -> None:
    line = Line(Abilities(pipelining=pipelining, utf8=True))
    parcels = [line.parcel(number, recipients, may_write=number != forbidden) for number in range(6)]
    run(line, parcels, script, lambda data: [bytes([each]) for each in data] if bytewise else [data])
    assert line.lost == 1
    assert line.wire.sent.count(b"QUIT\r\n") <= 1
    assert b"QUIT\r\n" not in line.wire.sent[:-6], "nothing is said behind it"
    accounted = Counter(map(id, [*line.done, *line.untouched, *line.queue]))
    assert accounted == {id(each): 1 for each in parcels}
    for number, parcel in enumerate(parcels):
        written = f"body {number}\r\n".encode() in line.wire.sent
        assert written == (parcel.content_answered or parcel.ending is Ending.UNANSWERED)
        if parcel.ending is Ending.ANSWERED:
            assert len(parcel.replies) == recipients
            assert all(parcel.replies)
            assert parcel.content_answered or all(each.code >= 300 for each in parcel.replies if each)


class Keeper:
    """A relay that keeps to the protocol, and refuses the commands whose numbers it is given."""

    def __init__(self, refused: set[int], no: str) -> None:
        self.refused, self.no = refused, no
        self.commands = 0
        self.in_data = self.in_mail = False
        self.bodies: list[bytes] = []

    def answer(self, written: bytes) -> list[str]:
        return [reply for line in written.split(b"\r\n")[:-1] if (reply := self._answer(line))]

    def _answer(self, line: bytes) -> str:
        if self.in_data and line != b".":
            self.bodies.append(line)
            return ""
        self.commands += 1
        if self.in_data or line == b"RSET":
            self.in_data = self.in_mail = False
            return "250 ok"
        if self.commands in self.refused:
            return self.no
        self.in_mail = self.in_mail or line.startswith(b"MAIL")
        if not self.in_mail:
            return "503 5.5.1 need MAIL first"
        self.in_data = line == b"DATA"
        return "354 go on" if self.in_data else "250 ok"


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(1, 20)), st.sampled_from(["450 4 later", "550 5 no"]), st.booleans())
def test_a_relay_that_keeps_to_the_protocol_gets_every_mail_on_one_connection(
    refused: set[int], no: str, pipelining: bool
) -> None:
    line, keeper = Line(Abilities(pipelining=pipelining, utf8=True)), Keeper(refused, no)
    line.begin(*(line.parcel(number, 2) for number in range(4)))
    while not line.idle and not line.lost:
        line.say(*keeper.answer(line.take()))
    assert not line.lost
    assert len(line.done) == 4
    accepted = [each for each in line.done if each.content_answered]
    assert all(each.ending is Ending.ANSWERED for each in line.done)
    assert keeper.bodies.count(b"body 0") == (line.done[0] in accepted)
    assert [each for each in keeper.bodies if each.startswith(b"body")] == [
        each.content.split(b"\r\n")[-2] for each in accepted
    ]
