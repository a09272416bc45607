"""The short way to read a result says what the long one says, and is taken by what our sender writes."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.gateway import observing
from services.gateway.lines import Observation
from services.gateway.observing import observe
from services.gateway.plain_results import read_plain_sent
from services.sender.classify import Reply, Sent
from services.sender.ledger import LedgerEntry
from services.sender.results import announce
from services.sender.retries import RetryPolicy
from shared.batching import Record
from shared.events import EventType

ID = "01900000-0000-7000-8000-000000000001"
SENT: dict[str, Any] = {
    "id": ID,
    "account": "default",
    "metadata": {"order": 1},
    "tags": ["news"],
    "attempt": 1,
    "outstanding": 0,
    "complete": True,
    "digest": "d",
    "recipients": ["b@y.org"],
    "message_id": "<m@x.org>",
    "relay": "relay:25",
    "response": "250 2.0.0 Ok",
    "sent_at": "2026-01-01T00:00:00.000Z",
    "outcomes": [{"address": "b@y.org", "state": "sent", "attempt": 1}],
}
_LIKELY: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, -1, 2**31, 1.0, 1.5, "", "1", "sent", "failed", "pending", "a\0b", "x" * 70),
    *([], {}, [None], ["b@y.org"], ["b@y.org", "c@y.org"], ["b@y.org", "b@y.org"], [1], [{}], {"url": "https://x.org"}),
    *(ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}", f"{ID}\n", "0" * 36),
    *("2026-01-01T00:00:00Z", "2026-02-30T00:00:00.000Z", "2026-01-01T24:00:00.000Z", "2026-01-01T23:59:60.000Z"),
    *("2026-01-01", "0000-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "2026-01-01T00:00:00.000+02:00"),
    *([{"address": "b@y.org", "state": "sent", "attempt": 2}], [{"address": "B@y.org", "state": "sent", "attempt": 1}]),
    *([{"address": "b@y.org", "state": "sent", "attempt": True}], [{"address": "b@y.org", "state": "gone"}]),
)
_values = st.sampled_from(_LIKELY) | st.text(max_size=3)
_names = st.sampled_from([*SENT, "callback", "mailing_id", "batch_id", "test", "paced", "unknown"])
_LEFT_OUT = object()


def see(data: dict[str, Any], ce_id: str | None = None) -> list[Observation]:
    headers = (("ce_type", b"email.sent"), *((("ce_id", ce_id.encode()),) if ce_id else ()))
    return observe(
        Record("email.sent", 0, 7, 1_767_225_600_000, json.dumps(data).encode(), headers), "cluster", 1 << 20
    )


def see_the_long_way(data: dict[str, Any], ce_id: str | None = None) -> list[Observation]:
    with mock.patch.object(observing, "read_plain_sent", return_value=None):
        return see(data, ce_id)


@settings(max_examples=400)
@given(st.dictionaries(_names, _values | st.just(_LEFT_OUT), max_size=2), st.none() | st.sampled_from([ID, "x", ""]))
@example({}, None)
def test_both_ways_say_the_same(changes: dict[str, Any], ce_id: str | None) -> None:
    data = {name: value for name, value in (SENT | changes).items() if value is not _LEFT_OUT}
    assert see(data, ce_id) == see_the_long_way(data, ce_id)


@pytest.mark.parametrize("name", [*SENT, "callback", "mailing_id", "batch_id", "test", "paced"])
def test_every_field_with_every_likely_value_is_read_the_same(name: str) -> None:
    for value in (*_LIKELY, _LEFT_OUT):
        data = {key: each for key, each in (SENT | {name: value}).items() if each is not _LEFT_OUT}
        assert see(data) == see_the_long_way(data), value


def test_what_the_event_calls_itself_is_no_news_and_another_name_is() -> None:
    line, same, other = [see(SENT, name)[0].line for name in (None, str(see(SENT)[0].line.event_id), ID)]
    assert (same.event_id, same.data) == (line.event_id, line.data)
    assert (other.event_id, other.data["ce_id"]) == (line.event_id, ID)


def test_what_our_sender_writes_goes_the_short_way() -> None:
    now = datetime(2026, 1, 1, 0, 0, 0, 123456, UTC)
    entry = LedgerEntry(UUID(ID), "shop", "d", "<m@x.org>", 1, now, now + timedelta(hours=1), {"batch_id": "7"})
    entry.apply({"b@y.org": Sent(Reply(250, "2.0.0 Ok"))}, now, RetryPolicy(), relay="relay:25", hold=False)
    told = announce(entry).completing
    assert told is not None
    plain = read_plain_sent(json.loads(told.to_json()))
    assert plain is not None
    assert (told.type, told.event_id) == (EventType.SENT, plain.name)
