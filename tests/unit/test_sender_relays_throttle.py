"""What may begin at a relay: traces of its answers in, the rate out; shares that lapse; pauses."""

import random
from collections.abc import Callable
from statistics import mean

import pytest

from services.sender.pacing import UNLIMITED
from services.sender.shares import Share
from services.sender.throttle import Throttle

TICK_S = 0.05
Answer = Callable[[float, random.Random], str]
"""Mails per second, luck: "" (taken), "vague" (450, 451, 421) or "explicit" (it speaks of rates)."""


def run(answer: Answer, *, demand: float, seconds: float, seed: int = 7) -> list[float]:
    """Mails per second in each second, where `demand` are there to be sent."""
    luck, throttle, now, ended = random.Random(seed), Throttle(20), 1000.0, 0
    sent_in = [0.0] * int(seconds)
    rate = demand  # as measured of late
    while now < 1000.0 + seconds - TICK_S:
        throttle.look(now)
        throttle.brake.ease(now)
        mails = min(round(demand * TICK_S), throttle.grant(now, 0))
        sent_in[int(now - 1000.0)] += mails
        rate += (mails / TICK_S - rate) * TICK_S
        for each in range(mails):
            ended += 1
            if said := answer(rate, luck):
                throttle.complain(now + each * TICK_S / mails, ended, rate, explicit=said == "explicit")
        now += TICK_S
    return sent_in


def stray(share: float, said: str = "vague") -> Answer:
    """So many are put off, however few mails there are."""
    return lambda rate, luck: said if luck.random() < share else ""


def limit(mails_per_s: float, said: str) -> Answer:
    """What is over so many a second is put off."""
    return lambda rate, luck: said if luck.random() > mails_per_s / max(rate, 0.001) else ""


@pytest.mark.parametrize("demand", [20, 200, 3000])
@pytest.mark.parametrize(("share", "said"), [(0.04, "vague"), (0.07, "vague"), (0.02, "explicit")])
def test_a_few_stray_refusals_leave_the_rate_alone(demand: float, share: float, said: str) -> None:
    sent = run(stray(share, said), demand=demand, seconds=60)
    assert min(sent[1:]) >= demand * 0.95


@pytest.mark.parametrize("said", ["vague", "explicit"])
@pytest.mark.parametrize(("demand", "allowed"), [(3000, 1000), (3000, 50), (200, 50), (40, 5)])
def test_a_relay_that_wants_fewer_gets_about_as_many_as_it_takes(demand: float, allowed: float, said: str) -> None:
    sent = run(limit(allowed, said), demand=demand, seconds=150)
    assert 0.5 * allowed <= mean(sent[40:]) <= 1.4 * allowed


def test_a_relay_that_puts_everything_off_gets_next_to_nothing_and_all_again_once_it_takes_mail() -> None:
    refusing = True
    answers = 0

    def answer(rate: float, luck: random.Random) -> str:
        nonlocal answers, refusing
        answers += 1
        refusing = refusing and answers < 5500
        return "vague" if refusing else ""

    sent = run(answer, demand=3000, seconds=90)
    assert min(sent) < 400
    assert sent[-1] == pytest.approx(3000, rel=0.05)


def test_fewer_than_one_mail_a_second_are_never_too_many() -> None:
    throttle = Throttle(1)
    assert not any(throttle.complain(float(n * 2), n, 0.5, explicit=True) for n in range(1, 200))


def test_complaints_after_a_long_time_without_any_are_heard_within_two_seconds() -> None:
    throttle = Throttle(1)
    assert not throttle.complain(0.0, 1, 1000.0, explicit=False)
    an_hour_later = (throttle.complain(3600 + n / 1000, 3_600_000 + n, 1000.0, explicit=False) for n in range(5000))
    assert 1000 <= list(an_hour_later).index(True) < 2000


def test_a_pause_lets_nothing_begin_until_its_end_and_the_longest_counts() -> None:
    throttle = Throttle(4)
    assert throttle.grant(0.0, 0) == UNLIMITED
    assert throttle.pause(10.0, 30.0)
    assert not throttle.pause(11.0, 5.0), "it goes on"
    assert not throttle.look(39.0)
    assert throttle.grant(39.0, 0) == 0
    assert throttle.look(40.0)
    assert throttle.grant(40.0, 0) == UNLIMITED
    assert not throttle.look(41.0)


def test_a_share_that_has_lapsed_lets_nothing_begin() -> None:
    throttle = Throttle(0)
    assert throttle.grant(0.0, 0) == 0
    assert throttle.set_share(Share(4, 100.0, 4), 5.0)
    throttle.look(4.0)
    assert throttle.grant(4.0, 0) > 0
    throttle.look(6.0)
    assert throttle.grant(6.0, 0) == 0
    assert not throttle.set_share(Share(4, 100.0, 4), 15.0)
    throttle.look(7.0)
    assert throttle.grant(7.0, 0) > 0
