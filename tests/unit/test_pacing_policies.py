"""How much bulk mail leaves (the window), and whose (fairness)."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.pacing.fairness import Claim, share_out
from services.scheduler.pacing.window import LEAST, MOST, Window, measure

TICK_S, POLL_S = 0.02, 0.1
_FRESH = Window()


def simulate(
    rate: float, latency_s: float, seconds: float, window: Window = _FRESH
) -> Iterator[tuple[float, float, Window]]:
    """Senders that get through `rate` mails a second, each after `latency_s` on its way: time, waited, window."""
    flying, last, seen, fastest, credit = 0, 0.0, 0, math.inf, 0.0
    waiting: deque[float] = deque()
    results: deque[tuple[float, float]] = deque()
    for step in range(int(seconds / TICK_S)):
        now = step * TICK_S
        if step % round(POLL_S / TICK_S) == 0:
            while results and results[0][0] <= now:
                fastest = min(fastest, now - results.popleft()[1])
                flying, seen = flying - 1, seen + 1
        told = replace(window, in_flight=flying, results=seen, fastest_s=fastest, elapsed_s=now - last, now_s=now)
        if adjusted := measure(told):
            window, last, seen, fastest = adjusted, now, 0, adjusted.fastest_s
        room = max(0, window.size - flying)
        waiting.extend([now] * room)
        flying += room
        credit = min(credit, 1.0) + rate * TICK_S
        while waiting and credit >= 1:
            handed = waiting.popleft()
            credit -= 1
            results.append((now + latency_s, handed))
            yield now, now - handed, window


@pytest.mark.parametrize(
    ("rate", "latency_s"), [(2000, 0.1), (2000, 0.7), (200, 0.05), (200, 1.0), (300, 3.0), (30, 0.2)]
)
def test_the_senders_are_busy_and_a_single_mail_waits_for_about_half_a_second_of_bulk(
    rate: float, latency_s: float
) -> None:
    sent = [(waited, window) for now, waited, window in simulate(rate, latency_s, 90) if now > 45]
    assert len(sent) > 0.95 * rate * 45
    queued = sorted(waited for waited, _ in sent)
    assert queued[len(queued) * 99 // 100] < max(1.1, 1.1 * LEAST / rate, 0.75 * latency_s)
    assert max(window.size for _, window in sent) <= MOST


def test_the_window_is_at_its_full_size_within_seconds() -> None:
    grown = next(now for now, _, window in simulate(2000, 0.15, 20) if window.size > 1000)
    assert grown < 4


def test_a_relay_that_becomes_slow_is_given_as_much_as_it_has_use_for() -> None:
    fast = Window(size=180, rate=300, latency_s=0.1)
    sent = [window for now, _, window in simulate(300, 2.0, 120, fast) if now > 90]
    assert len(sent) > 0.9 * 300 * 30


def test_a_pause_says_nothing_about_the_senders_and_silence_does() -> None:
    busy = Window(size=1000, rate=2000, latency_s=0.1, elapsed_s=1.0, now_s=10.0)
    idle = measure(busy)
    assert idle
    assert (idle.size, idle.rate) == (1000, 2000)
    silent = measure(replace(busy, in_flight=1000))
    for _ in range(12):
        assert silent
        silent = measure(replace(silent, in_flight=1000, elapsed_s=1.0))
    assert silent
    assert silent.size == LEAST
    assert measure(replace(busy, elapsed_s=0.1)) is None


claims = st.lists(
    st.builds(
        Claim,
        lane=st.integers(1, 10**6),
        account=st.sampled_from("abcd"),
        in_flight=st.integers(0, 300),
        waiting=st.integers(1, 300),
    ),
    max_size=12,
    unique_by=lambda claim: claim.lane,
)


@given(free=st.integers(0, 1000), claims=claims)
def test_all_room_is_given_and_no_account_gets_more_while_another_has_less(free: int, claims: list[Claim]) -> None:
    shares = share_out(free, claims)
    assert sum(shares.values()) == min(free, sum(claim.waiting for claim in claims))
    assert all(0 < shares.get(claim.lane, 1) <= claim.waiting for claim in claims)
    held: dict[str, int] = {}
    granted: dict[str, int] = {}
    unserved: dict[str, int] = {}
    for claim in claims:
        quota = shares.get(claim.lane, 0)
        held[claim.account] = held.get(claim.account, 0) + claim.in_flight + quota
        granted[claim.account] = granted.get(claim.account, 0) + quota
        unserved[claim.account] = unserved.get(claim.account, 0) + claim.waiting - quota
    least = min((held[account] for account, left in unserved.items() if left), default=None)
    for account, quota in granted.items():
        assert least is None or not quota or held[account] <= least + 1


def test_whoever_comes_late_catches_up_and_lanes_share_what_their_account_has() -> None:
    shop = [Claim(1, "shop", 90, 500), Claim(2, "shop", 0, 500)]
    assert share_out(60, [*shop, Claim(3, "club", 0, 500)]) == {3: 60}
    assert share_out(200, [*shop, Claim(3, "club", 0, 10)]) == {3: 10, 1: 50, 2: 140}
    assert share_out(1, [Claim(9, "b", 0, 5), Claim(8, "a", 0, 5)]) == {9: 1}
