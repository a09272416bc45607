"""Shares of a relay: whatever the processes wish, and in whatever order they ask, the limits hold."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.shares import PACED, Holding, Limits, Share, Wish, assign, divide, divide_whole

A, B, C = (UUID(int=number) for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("limit", "wants", "parts"),
    [
        (20, [20, 20], [10, 10]),
        (20, [20, 2], [18, 2]),
        (20, [3, 4], [10, 10]),
        (3, [3, 3], [2, 1]),
        (1, [5, 5, 5], [1, 0, 0]),
        (7, [1, 9, 9], [1, 3, 3]),
    ],
)
def test_connections_are_divided_fairly(limit: int, wants: list[int], parts: list[int]) -> None:
    assert divide_whole(limit, wants) == parts


def test_a_rate_that_one_does_not_want_is_the_others() -> None:
    assert divide(50, [50, 50]) == [25, 25]
    assert divide(50, [1, 50]) == [1, 49]
    assert divide(60, [5, 20, 50]) == [5, 20, 35]


@given(st.floats(0.1, 1e4), st.lists(st.floats(0, 1e4), min_size=1, max_size=6))
def test_a_division_gives_out_the_limit_and_no_more(limit: float, wants: list[float]) -> None:
    parts = divide(limit, wants)
    assert sum(parts) == pytest.approx(limit)
    assert all(part >= min(want, limit / len(wants)) * 0.999 for part, want in zip(parts, wants, strict=True))


def ask(
    limits: Limits, held: dict[UUID, Holding], process: UUID, wish: tuple[int, float], turn: int, opened: int
) -> Share:
    """One turn of a process, as the store does it."""
    others = [each for other, each in held.items() if other != process]
    share = assign(limits, Wish(process, *wish, open=opened), others, turn)
    held[process] = Holding(process, *wish, share.held, share.rate or 0.0)
    return share


WISHES = st.tuples(st.integers(0, 30), st.floats(0, 100))


@given(
    st.integers(1, 25),
    st.lists(st.tuples(st.sampled_from([A, B, C]), WISHES, st.floats(0, 1), st.integers(0, 9)), max_size=30),
)
def test_the_sum_of_all_shares_never_exceeds_the_limits(
    connections: int, turns: list[tuple[UUID, tuple[int, float], float, int]]
) -> None:
    limits = Limits("r", "smtp", 0, connections, 50)
    held: dict[UUID, Holding] = {}
    for process, wish, used, turn in turns:
        opened = round(held[process].connections * used) if process in held else 0
        ask(limits, held, process, wish, turn, opened)
        assert sum(each.connections for each in held.values()) <= connections
        assert sum(each.rate for each in held.values()) <= 50 * PACED * 1.0001


def test_a_joiner_gets_its_part_once_the_first_has_given_it_up() -> None:
    limits = Limits("r", "smtp", 0, 20)
    held: dict[UUID, Holding] = {}
    assert ask(limits, held, A, (20, 0), 0, 0).connections == 20
    assert ask(limits, held, B, (20, 0), 0, 0).connections == 0
    assert ask(limits, held, A, (20, 0), 0, 20).connections == 10
    assert ask(limits, held, B, (20, 0), 0, 0).connections == 0, "they are open still"
    ask(limits, held, A, (20, 0), 0, 10)
    assert ask(limits, held, B, (20, 0), 0, 0).connections == 10


def test_a_single_connection_goes_from_one_to_the_next() -> None:
    limits = Limits("r", "smtp", 0, 1)
    held: dict[UUID, Holding] = {}
    owners = set()
    for turn in range(6):
        for process in (A, B, A, B):
            if ask(limits, held, process, (1, 0), turn, 0).connections:
                owners.add(process)
    assert owners == {A, B}


def test_a_process_that_becomes_busy_gets_what_the_idle_one_leaves() -> None:
    limits = Limits("r", "smtp", 0, 2, 50)
    held: dict[UUID, Holding] = {}
    for _ in range(2):
        for process in (A, B):
            ask(limits, held, process, (2, 1), 0, 0)
    assert held[A].rate == pytest.approx(25 * PACED)
    for _ in range(3):
        ask(limits, held, A, (2, 50), 0, 0)
        ask(limits, held, B, (2, 1), 0, 0)
    assert held[A].rate == pytest.approx(50 * PACED - 1)
