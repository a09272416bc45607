"""The pure policies of a relay: its breaker, its pace, what it is given while another could take it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.breaker import Breaker, BreakerPolicy, Gate
from services.sender.classify import Reply
from services.sender.pacing import TICK_S, UNLIMITED, Brake, Pacer, slower_of
from services.sender.parcel import Ending, Parcel
from services.sender.tally import judge
from services.sender.traffic import Traffic

# --- the breaker ---


def test_it_opens_after_connects_that_failed_in_a_row_once_none_is_under_way() -> None:
    breaker = Breaker(BreakerPolicy(failures=3))
    for _ in range(4):
        assert not breaker.on_refused(operators=False, others_under_way=True)
    assert breaker.on_refused(operators=False, others_under_way=False)
    assert breaker.gate is Gate.OPEN


def test_what_only_an_operator_can_mend_opens_it_at_once_and_is_tried_seldom() -> None:
    breaker = Breaker(BreakerPolicy())
    assert breaker.on_refused(operators=True, others_under_way=True)
    assert breaker.next_pause_s(1.0) == 30


def test_troubles_in_a_row_open_it_and_an_answer_between_them_does_not() -> None:
    breaker = Breaker(BreakerPolicy(troubles=3))
    for _ in range(5):
        assert not breaker.on_trouble(operators=False)
        assert not breaker.on_trouble(operators=False)
        assert not breaker.on_answered()
    assert [breaker.on_trouble(operators=False) for _ in range(3)] == [False, False, True]


def test_a_relay_that_is_full_is_asked_for_more_ever_less_often_until_it_has_let_one_in() -> None:
    breaker = Breaker(BreakerPolicy(retry_s=0.2, more_after_s=10))
    assert [breaker.next_more_s() for _ in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    breaker.on_connected()
    assert breaker.next_more_s() == 0.2


def test_after_an_outage_one_answered_mail_closes_it_and_one_in_trouble_opens_it_again() -> None:
    breaker = Breaker(BreakerPolicy(failures=1))
    breaker.on_refused(operators=False, others_under_way=False)
    breaker.on_connected()
    assert breaker.gate is Gate.TRIAL
    assert breaker.on_trouble(operators=False)
    breaker.on_connected()
    assert breaker.on_answered()
    assert breaker.gate.value == "closed"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_probes_never_pause_for_longer_than_lets_mail_flow_within_ten_seconds_of_a_return(chances: list[float]) -> None:
    breaker = Breaker(BreakerPolicy())
    breaker.on_refused(operators=False, others_under_way=False)
    assert all(0.3 <= breaker.next_pause_s(chance) <= 3 for chance in chances)


# --- the pace ---


@given(
    st.floats(0.5, 5000),
    st.lists(st.tuples(st.floats(0.01, 0.3), st.floats(0, 1)), min_size=5, max_size=60),
)
def test_no_more_than_the_rate_and_a_burst_leaves_whenever_it_is_asked(
    rate: float, steps: list[tuple[float, float]]
) -> None:
    pacer, now, unused, sent = Pacer(), 100.0, 0, 0
    for pause, share in steps:
        now += pause
        allowed = pacer.grant(rate, unused, now)
        used = round(allowed * share)
        sent += used
        unused = allowed - used
    assert sent <= rate * (now - 100.0 + TICK_S) + max(1.0, rate / 10) + rate * TICK_S + 1


@pytest.mark.parametrize("rate", [0.5, 3.0, 24.5, 49.0, 1000.0])
def test_a_relay_with_mail_waiting_gets_its_whole_rate(rate: float) -> None:
    pacer = Pacer()
    sent = sum(pacer.grant(rate, 0, 100 + tick * TICK_S) for tick in range(400))
    assert rate * 20 * 0.97 - 1 <= sent <= rate * 20 + 1


def test_what_was_not_used_has_passed() -> None:
    pacer = Pacer()
    pacer.grant(100.0, 0, 10.0)
    assert pacer.grant(100.0, 0, 70.0) <= 15


def test_complaints_halve_the_rate_once_a_second_and_silence_brings_it_back() -> None:
    brake = Brake()
    assert brake.press(0.0, 400.0)
    assert not brake.press(0.5, 390.0), "what complained was on its way before the cut"
    assert brake.rate == 200
    assert brake.press(1.1, 190.0)
    assert brake.rate == 95
    lifted = [now for now in range(2, 60) if brake.ease(float(now))]
    assert brake.rate is None
    assert 20 < lifted[0] < 40


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 5), st.floats(0, 5000)), max_size=60))
def test_the_brake_never_stops_a_relay_altogether(steps: list[tuple[bool, float, float]]) -> None:
    brake, now = Brake(), 0.0
    for complains, pause, current in steps:
        now += pause
        if complains:
            brake.press(now, current)
        else:
            brake.ease(now)
        assert brake.rate is None or brake.rate >= 1.0


def test_the_lower_limit_counts() -> None:
    assert slower_of(None, None) is None
    assert slower_of(None, 5.0) == 5.0
    assert slower_of(7.0, 5.0) == 5.0


# --- what it is given ---


def test_a_relay_that_gets_nowhere_is_given_no_more_than_its_connections_can_begin() -> None:
    traffic = Traffic()
    traffic.look(0.75, 100, 4, 64, opening=False, silent_s=0.0)
    assert traffic.depth > 64, "what waits may have come just now"
    traffic.look(1.0, 100, 4, 64, opening=False, silent_s=0.0)
    assert traffic.depth == 4
    traffic.ended += 20
    traffic.look(1.25, 100, 4, 64, opening=False, silent_s=0.0)
    assert traffic.depth == 40
    for look in range(6):
        traffic.look(2.0 + look, 0, 4, 64, opening=False, silent_s=0.0)
    assert traffic.depth == 64


def test_a_connect_that_hangs_and_commands_without_an_answer_keep_mail_away() -> None:
    traffic = Traffic()
    traffic.on_opening(10.0)
    traffic.look(10.5, 5, 4, 64, opening=True, silent_s=0.0)
    assert not traffic.is_stalled(10.9)
    assert traffic.is_stalled(11.1)
    traffic.on_open()
    assert not traffic.is_stalled(11.2)
    traffic.look(13.5, 0, 4, 64, opening=False, silent_s=2.5)
    assert traffic.is_stalled(13.6)
    traffic.ended += 1
    traffic.look(13.75, 0, 4, 64, opening=False, silent_s=2.7)
    assert not traffic.is_stalled(13.8)


def test_a_connect_that_ended_is_forgotten() -> None:
    traffic = Traffic()
    traffic.on_opening(10.0)
    traffic.look(12.0, 0, 4, 64, opening=False, silent_s=0.0)
    assert not traffic.is_stalled(100.0)


# --- what an ending says of the relay ---


def end(ending: Ending, *replies: Reply | None, answered: bool = False) -> Parcel:
    parcel = Parcel(b"a@x", [b"b@x"] * max(1, len(replies)), b"", lambda: True, lambda _: None)
    parcel.replies = list(replies)
    parcel.content_answered = answered
    parcel.end(ending, "the relay closed the connection")
    return parcel


OK = Reply(250, "2.0.0 ok")


@pytest.mark.parametrize(
    ("parcel", "outcome", "trouble", "returnable"),
    [
        (end(Ending.ANSWERED, OK, Reply(550, "5.1.1 unknown"), answered=True), "sent", False, False),
        (end(Ending.ANSWERED, Reply(550, "5.1.1 unknown user")), "refused", False, False),
        (end(Ending.ANSWERED, Reply(452, "4.2.2 mailbox full"), answered=True), "deferred", False, False),
        (end(Ending.ANSWERED, Reply(530, "5.7.0 authentication required")), "deferred", True, True),
        (end(Ending.ANSWERED, Reply(421, "4.3.2 shutting down"), answered=True), "deferred", True, False),
        (end(Ending.INTERRUPTED), "broken", True, True),
        (end(Ending.UNANSWERED), "unknown", True, False),
        (end(Ending.FORBIDDEN), "not_begun", False, False),
    ],
)
def test_an_ending_is_the_relays_trouble_or_the_mails_own(
    parcel: Parcel, outcome: str, trouble: bool, returnable: bool
) -> None:
    found = judge(parcel)
    assert (found.outcome, bool(found.trouble), found.returnable) == (outcome, trouble, returnable)


def test_only_what_names_credentials_is_the_operators() -> None:
    assert judge(end(Ending.ANSWERED, Reply(535, "5.7.8 bad credentials"))).operators
    assert not judge(end(Ending.ANSWERED, Reply(454, "4.7.0 temporary failure"))).operators


@pytest.mark.parametrize(
    ("answer", "slower", "explicit"),
    [
        ("4.7.28 rate limit exceeded", True, True),
        ("4.3.0 later", True, False),
        ("4.2.1 mailbox busy", False, False),
    ],
)
def test_a_refusal_for_pace_is_heard_as_such(answer: str, slower: bool, explicit: bool) -> None:
    found = judge(end(Ending.ANSWERED, Reply(450, answer), answered=True))
    assert (found.slower, found.explicit) == (slower, explicit)


def test_how_long_a_relay_wants_no_mail_is_heard() -> None:
    assert judge(end(Ending.ANSWERED, Reply(451, "4.7.28 HTTP 429", 12.0), answered=True)).pause_s == 12
    assert judge(end(Ending.ANSWERED, Reply(451, "4.3.2 HTTP 503", 3.0), answered=True)).pause_s == 3
    assert judge(end(Ending.ANSWERED, Reply(451, "4.7.28 HTTP 429"), answered=True)).pause_s == 0


def test_without_a_limit_nothing_ever_runs_out() -> None:
    assert UNLIMITED > 10**15
