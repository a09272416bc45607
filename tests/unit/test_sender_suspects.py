"""Which record is to blame when processes die while reading a partition (R4)."""

from hypothesis import given
from hypothesis import strategies as st

from services.sender.suspects import HOLD_AFTER, Suspicion, assess


def test_a_clean_end_or_progress_blames_nobody() -> None:
    first = assess(Suspicion(), 10, died=False)
    assert first == Suspicion(trying=10)
    assert assess(first, 10, died=False).deaths == 0
    assert assess(first, 11, died=True).deaths == 0  # it got past the head


def test_two_deaths_at_a_head_lead_to_careful_reading_and_not_yet_to_blame() -> None:
    state = assess(assess(assess(Suspicion(), 10, died=False), 10, died=True), 10, died=True)
    assert state.deaths == 2
    assert state.is_careful(10)
    assert state.is_careful(500)
    assert not state.is_held(10)
    assert state.trying is None  # nothing is at work before it is named


def test_what_was_being_tried_alone_is_blamed_not_the_head() -> None:
    careful = Suspicion(suspect=10, deaths=2, trying=42, careful_until=2010)
    state = assess(careful, 10, died=True)
    assert not state.is_held(42), "one death alone may be anybody's doing"
    state = assess(Suspicion(state.suspect, state.deaths, 42, state.careful_until), 10, died=True)
    assert state.is_held(42)
    assert not state.is_held(10)


def test_a_partition_in_which_nothing_was_tried_is_innocent() -> None:
    careful = Suspicion(suspect=10, deaths=2, trying=None, careful_until=2010)
    for _ in range(5):
        careful = assess(careful, 10, died=True)
    assert careful.deaths == 2


def test_careful_reading_ends_behind_what_was_at_work() -> None:
    careful = Suspicion(suspect=10, deaths=2, trying=None, careful_until=2010)
    assert assess(careful, 2011, died=False) == Suspicion(trying=2011)


@given(poison=st.integers(0, 600), commits=st.lists(st.integers(0, 600), max_size=30))
def test_a_record_that_kills_is_found_wherever_it_lies(poison: int, commits: list[int]) -> None:
    """Each life reads on from some commit before the poison; careful lives name what they try."""
    state, head = Suspicion(), 0
    for life in range(3 + len(commits) * 2 + 10):
        head = max(head, min(poison, commits[life] if life < len(commits) else head))
        state = assess(state, head, died=life > 0)
        if state.is_held(poison):
            break
        assert state.suspect is None or state.suspect <= poison
        if state.is_careful(head):
            assert not any(state.is_held(offset) for offset in range(head, poison))
            state = Suspicion(state.suspect, state.deaths, poison, state.careful_until)
    assert state.is_held(poison)
    assert state.deaths >= HOLD_AFTER
