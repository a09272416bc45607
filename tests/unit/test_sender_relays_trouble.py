"""Whether a mail or its relay is to blame when connections break before its content."""

from services.sender.parcel import Troubles


def test_trouble_at_a_relay_that_works_for_others_counts_against_the_mail() -> None:
    troubles = Troubles()
    troubles.add("a", now=100.0, answered=99.0)
    troubles.add("a", now=110.0, answered=105.0)
    assert troubles.count == 2


def test_trouble_at_a_relay_that_answers_nobody_counts_once() -> None:
    troubles = Troubles()
    for now in range(100, 120):
        troubles.add("a", now=float(now), answered=50.0)
        troubles.add("b", now=float(now), answered=50.0)
    assert troubles.count == 2


def test_a_mail_that_breaks_its_connections_all_alone_is_found_out_in_time() -> None:
    troubles = Troubles()
    for now in (100.0, 131.0, 162.0):
        troubles.add("a", now=now, answered=50.0)
    assert troubles.count == 3
