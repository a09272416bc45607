"""A relay that takes only some recipients at a time: the rest goes in other transactions of the same attempt."""

from collections.abc import Iterator

import pytest

from services.sender.breaker import Breaker, BreakerPolicy
from services.sender.classify import Reply
from services.sender.feed import Feed, Hooks
from services.sender.parcel import Ending, Parcel
from services.sender.remainder import MAX_PARTS, Remainder, sort_out, split

OK, FULL, NOBODY = Reply(250, "2.0.0 ok"), Reply(452, "4.5.3 too many recipients"), Reply(550, "5.1.1 no such user")
CLOSING = Reply(421, "4.3.2 closing")


class Whole:
    """A mail to so many recipients, and what came of it."""

    def __init__(self, recipients: int) -> None:
        self.told: list[Parcel] = []
        addresses = [b"r%d@x.org" % number for number in range(recipients)]
        self.parcel = Parcel(b"a@x.org", addresses, b"x\r\n", lambda: True, self.told.append, context="mail")

    def answer(self, *replies: Reply | None, parcel: Parcel | None = None) -> Remainder | None:
        """The relay answers the content; returns what goes on."""
        parcel = parcel or self.parcel
        parcel.replies, parcel.content_answered, parcel.ending = list(replies), True, Ending.ANSWERED
        return split(parcel, 10.0)

    def told_of(self) -> list[str]:
        """Whether each recipient has its own answer, once, and which."""
        (parcel,) = self.told
        return [str(reply) if reply else "nothing" for reply in parcel.replies]


def go_on(whole: Whole, *replies: Reply | None) -> Remainder:
    rest = whole.answer(*replies)
    assert rest
    return rest


def test_those_for_whom_there_was_no_room_go_on_and_nobody_else() -> None:
    whole = Whole(4)
    rest = go_on(whole, OK, FULL, NOBODY, FULL)
    assert rest.recipients == [b"r1@x.org", b"r3@x.org"]
    assert (rest.sender, rest.content, rest.context) == (b"a@x.org", b"x\r\n", "mail")
    assert whole.told == []
    rest.replies, rest.content_answered = [OK, OK], True
    rest.end(Ending.ANSWERED)
    assert whole.told_of() == [str(OK), str(OK), str(NOBODY), str(OK)]
    assert whole.told[0].ending is Ending.ANSWERED


@pytest.mark.parametrize(
    "replies",
    [
        (OK, OK),
        (OK, NOBODY),
        (OK, Reply(452, "4.2.2 mailbox full")),
        (Reply(451, "4.3.0 later"), FULL),  # the content was refused: nobody got it, and nothing is gained
        (FULL, FULL),
    ],
)
def test_without_progress_or_somebody_left_it_is_over(replies: tuple[Reply, ...]) -> None:
    assert Whole(2).answer(*replies) is None


def test_a_mail_that_had_no_answer_to_its_content_has_no_next_part() -> None:
    whole = Whole(2)
    whole.parcel.replies, whole.parcel.ending = [None, FULL], Ending.UNANSWERED
    assert split(whole.parcel, 10.0) is None


def take_parts(whole: Whole) -> Iterator[Remainder]:
    """One recipient is taken each time."""
    parcel: Parcel | None = whole.parcel
    while parcel:
        parcel = whole.answer(OK, *[FULL] * (len(parcel.recipients) - 1), parcel=parcel)
        if parcel:
            assert isinstance(parcel, Remainder)
            yield parcel


def test_many_parts_are_one_ending_and_their_number_is_bounded() -> None:
    whole = Whole(50)
    *_, last = take_parts(whole)
    assert last.part == MAX_PARTS
    last.on_done(last)
    assert whole.told_of() == [str(OK)] * MAX_PARTS + [str(FULL)] * (50 - MAX_PARTS)


@pytest.mark.parametrize("ending", [Ending.INTERRUPTED, Ending.FORBIDDEN])
def test_a_part_that_did_not_get_to_its_content_leaves_its_recipients_deferred(ending: Ending) -> None:
    whole = Whole(2)
    rest = go_on(whole, OK, FULL)
    rest.end(ending, "the relay closed the connection")
    assert whole.told_of() == [str(OK), str(FULL)]
    assert whole.told[0].ending is Ending.ANSWERED


def test_a_part_that_is_refused_as_a_whole_is_told_in_the_relays_words() -> None:
    whole = Whole(3)
    rest = go_on(whole, OK, FULL, FULL)
    rest.replies = [CLOSING, CLOSING]
    rest.end(Ending.ANSWERED)
    assert whole.told_of() == [str(OK), str(CLOSING), str(CLOSING)]


def test_a_part_without_an_answer_to_its_content_is_unknown_and_the_others_were_sent() -> None:
    whole = Whole(3)
    rest = go_on(whole, OK, FULL, FULL)
    rest.replies = [None, NOBODY]
    rest.end(Ending.UNANSWERED, "no reply to final dot in time")
    assert whole.told_of() == [str(OK), "nothing", str(NOBODY)]
    assert (whole.told[0].ending, whole.told[0].diagnostic) == (Ending.UNANSWERED, "no reply to final dot in time")


def test_a_part_never_goes_back_to_where_mail_comes_from() -> None:
    whole, other = Whole(2), Whole(1)
    rest = go_on(whole, OK, FULL)
    assert sort_out([other.parcel, rest]) == [other.parcel]
    assert other.told == []
    assert whole.told_of() == [str(OK), str(FULL)]


def make_parcel() -> Parcel:
    return Parcel(b"", [b"b@y.org"], b"", lambda: True, lambda _: None)


def make_feed(*parcels: Parcel) -> Feed:
    feed = Feed(1, 16, Breaker(BreakerPolicy()), Hooks())
    feed.queue.extend(parcels)
    return feed


def test_relief_for_others_leaves_a_remainder_where_it_waits() -> None:
    first, second = make_parcel(), make_parcel()
    rest = Remainder(b"", [b"c@y.org"], b"", lambda: True, lambda _: None)
    feed = make_feed(rest, first, second)
    assert feed.give_up(2) == [first, second]
    assert list(feed.queue) == [rest]
    assert rest.ending is None


def test_each_mail_that_waits_is_asked_once_and_none_is_lost_on_the_way() -> None:
    asked: list[Parcel] = []

    def turns_in_between(parcel: Parcel) -> bool:
        asked.append(parcel)
        return len(asked) > 2  # as the clock passes the end of a lease

    parcels = [make_parcel() for _ in range(4)]
    feed = make_feed(*parcels)
    assert [*feed.recall(turns_in_between), *feed.queue] == [*parcels[2:], *parcels[:2]]
    assert asked == parcels
