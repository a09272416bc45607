"""Positions in lists, as callers pass them back: what was written is read, anything else is refused with its field."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cursors import read_cursor, read_time_cursor, write_cursor, write_time_cursor
from shared.problems import Problem

ID = UUID("0190d1f0-1111-7222-8333-444455556666")
AT = datetime(2026, 11, 21, 21, 30, 0, 123456, tzinfo=UTC)


def encode(position: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0")), max_size=3))
def test_what_was_written_is_read_back(position: list[str]) -> None:
    text = write_cursor(*position)
    assert read_cursor(text, len(position), "/after") == position
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=45))])
def test_a_time_and_an_id_are_read_back(zone: timezone) -> None:
    assert read_time_cursor(write_time_cursor(AT.astimezone(zone), ID), "/after") == (AT, ID)


NOT_CURSORS = [
    "",
    "nonsense",
    "%%%",
    "ünlesbar",
    encode("text"),
    encode([AT.isoformat()]),
    encode([AT.isoformat(), str(ID), "more"]),
    encode([AT.isoformat(), 5]),
    encode([AT.isoformat(), "\0"]),
    encode([AT.isoformat(), "no-id"]),
    encode(["yesterday", str(ID)]),
    encode(["0001-01-01T00:00:00+23:00", str(ID)]),
    encode([AT.replace(tzinfo=None).isoformat(), str(ID)]),
]


@pytest.mark.parametrize("text", NOT_CURSORS)
def test_anything_else_is_refused_and_the_field_is_named(text: str) -> None:
    with pytest.raises(Problem) as caught:
        read_time_cursor(text, "/query/after")
    assert caught.value.status == 422
    assert [each["pointer"] for each in caught.value.errors] == ["/query/after"]
