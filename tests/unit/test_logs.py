"""What a log leaves out."""

import logging

from shared.logs import RepetitionFilter


def test_a_client_that_repeats_itself_is_heard_once_in_ten_seconds() -> None:
    now = 0.0
    heard = RepetitionFilter(("aiokafka",), clock=lambda: now)

    def say(name: str, text: str, *args: object) -> str | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, text, args, None)
        return record.getMessage() if heard.filter(record) else None

    assert say("aiokafka.client", "no connection to %s", 1) == "no connection to 1"
    for number in range(500):
        now += 0.01
        assert say("aiokafka.client", "no connection to %s", number) is None
    assert say("aiokafka.client", "something else") == "something else"
    assert say("services.sender", "ours") == "ours"
    assert say("services.sender", "ours") == "ours"
    now = 11.0
    assert say("aiokafka.client", "no connection to %s", 2) == "no connection to 2 (500 more like it)"
