from functools import reduce

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.states import (
    FINAL_STATES,
    FailureReason,
    MailStatus,
    RecipientState,
    derive_status,
    takes_precedence,
)

PENDING, DEFERRED, SENT, FAILED, UNKNOWN = RecipientState

Known = tuple[RecipientState, int]
KNOWN = st.tuples(st.sampled_from(RecipientState), st.integers(min_value=0, max_value=3))


def merge(old: Known, new: Known) -> Known:
    return new if takes_precedence(*new, *old) else old


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ((SENT, 1), (FAILED, 9)),
        ((SENT, 1), (DEFERRED, 9)),
        ((FAILED, 1), (DEFERRED, 9)),
        ((FAILED, 1), (UNKNOWN, 9)),
        ((DEFERRED, 2), (DEFERRED, 1)),
        ((UNKNOWN, 2), (DEFERRED, 1)),
        ((DEFERRED, 2), (UNKNOWN, 1)),
        ((FAILED, 2), (FAILED, 1)),
        ((DEFERRED, 1), (PENDING, 0)),
        ((UNKNOWN, 1), (DEFERRED, 1)),
    ],
)
def test_sent_beats_a_final_failure_beats_what_is_open_and_then_the_higher_attempt(new: Known, old: Known) -> None:
    assert takes_precedence(*new, *old)
    assert not takes_precedence(*old, *new)


@given(KNOWN)
def test_the_same_outcome_read_again_changes_nothing(known: Known) -> None:
    assert not takes_precedence(*known, *known)


@given(KNOWN, KNOWN, KNOWN)
def test_precedence_is_an_order(one: Known, two: Known, three: Known) -> None:
    assert not (takes_precedence(*one, *two) and takes_precedence(*two, *one))
    if takes_precedence(*one, *two) and takes_precedence(*two, *three):
        assert takes_precedence(*one, *three)


@given(st.lists(KNOWN, min_size=1, max_size=6).flatmap(lambda seen: st.tuples(st.just(seen), st.permutations(seen))))
@example(([(DEFERRED, 1), (UNKNOWN, 1)], [(UNKNOWN, 1), (DEFERRED, 1)]))
def test_outcomes_add_up_to_the_same_in_whatever_order_they_are_read(case: tuple[list[Known], list[Known]]) -> None:
    seen, shuffled = case

    assert reduce(merge, seen) == reduce(merge, shuffled)


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ([], MailStatus.QUEUED),
        ([PENDING, PENDING], MailStatus.QUEUED),
        ([DEFERRED, PENDING], MailStatus.DEFERRED),
        ([SENT, DEFERRED], MailStatus.DEFERRED),
        ([FAILED, DEFERRED], MailStatus.DEFERRED),
        ([SENT, PENDING], MailStatus.DEFERRED),
        ([SENT, SENT], MailStatus.SENT),
        ([SENT, FAILED], MailStatus.PARTIALLY_SENT),
        ([FAILED, FAILED], MailStatus.FAILED),
        ([SENT, UNKNOWN], MailStatus.UNKNOWN),
        ([DEFERRED, UNKNOWN], MailStatus.UNKNOWN),
    ],
)
def test_the_states_of_recipients_add_up_to_a_status(states: list[RecipientState], status: MailStatus) -> None:
    assert derive_status(states) is status


@pytest.mark.parametrize(
    ("reasons", "status"),
    [
        ([FailureReason.CANCELLED], MailStatus.CANCELLED),
        ([FailureReason.EXPIRED, FailureReason.EXPIRED], MailStatus.EXPIRED),
        ([FailureReason.REJECTED], MailStatus.FAILED),
        ([FailureReason.CANCELLED, FailureReason.EXPIRED], MailStatus.FAILED),
        ([], MailStatus.FAILED),
    ],
)
def test_a_mail_of_which_nothing_was_sent_says_why(reasons: list[FailureReason], status: MailStatus) -> None:
    assert derive_status([FAILED], reasons=reasons) is status


def test_a_cancelled_rest_does_not_hide_what_was_sent() -> None:
    assert derive_status([SENT, FAILED], reasons=[FailureReason.CANCELLED]) is MailStatus.PARTIALLY_SENT


def test_a_mail_the_scheduler_holds_is_scheduled_until_something_happens_to_it() -> None:
    assert derive_status([], scheduled=True) is MailStatus.SCHEDULED
    assert derive_status([PENDING], scheduled=True) is MailStatus.SCHEDULED
    assert derive_status([FAILED], scheduled=True, reasons=[FailureReason.CANCELLED]) is MailStatus.CANCELLED


@given(st.lists(st.sampled_from(RecipientState), min_size=1, max_size=5), st.booleans())
def test_a_status_is_final_exactly_when_every_recipient_is(states: list[RecipientState], scheduled: bool) -> None:
    final = derive_status(states, scheduled=scheduled) in {
        MailStatus.SENT,
        MailStatus.PARTIALLY_SENT,
        MailStatus.FAILED,
        MailStatus.CANCELLED,
        MailStatus.EXPIRED,
    }

    assert final is all(state in FINAL_STATES for state in states)
