"""Whole numbers beyond 64 bits: refused wherever a body may hold what its sender likes, never rounded."""

import json
import tracemalloc
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.batches.judging import BadItem, Judge
from services.scheduler.batches.splitting import Piece
from services.scheduler.importing.json_reader import JsonReader
from services.scheduler.importing.rows import BadRow
from shared.bodies import parse_object
from shared.composing.attachments import AttachmentRules
from shared.problems import Problem
from shared.whole_numbers import find_rounded
from tests.support.gateway import make_key

LARGE = 123456789012345678901234567890
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    numbers | st.text(max_size=3) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def has_changed(value: Any, read: Any) -> bool:
    if isinstance(value, dict):
        return any(has_changed(value[name], read[name]) for name in value)
    if isinstance(value, list):
        return any(map(has_changed, value, read))
    return type(value) is not type(read)


@given(st.dictionaries(st.text(max_size=3), values, max_size=4))
def test_a_number_is_pointed_at_where_reading_it_has_changed_it(document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    read = orjson.loads(body)
    assert bool(find_rounded(body, read.values())) == has_changed(document, read)


def test_a_number_beyond_64_bits_is_refused_with_a_pointer_to_it_and_one_of_64_bits_is_kept() -> None:
    body = b'{"attributes": {"id": %d, "a/b": [1, {"c": -9223372036854775809}]}, "n": 18446744073709551616}'
    with pytest.raises(Problem) as refused:
        parse_object(body % LARGE)
    assert refused.value.status == 422
    errors = refused.value.to_document()["errors"]
    assert {each["pointer"] for each in errors} == {"/attributes/id", "/attributes/a~1b/1/c", "/n"}
    assert all("64 bits" in each["detail"] and "text" in each["detail"] for each in errors)
    kept = {"a": 2**64 - 1, "b": -(2**63), "c": 1e300, "d": -1e19, "e": str(LARGE), "f": 1.5}
    assert parse_object(orjson.dumps(kept)) == kept


def test_only_fields_that_hold_what_a_sender_likes_are_looked_at_where_they_are_known() -> None:
    body = b'{"subject": %d, "variables": {"n": 1}}' % LARGE
    assert parse_object(body, free=("variables", "metadata"))  # whoever judges the subject refuses it
    with pytest.raises(Problem):
        parse_object(body, free=("subject",))


def test_neither_depth_nor_many_of_them_are_a_fault_of_ours() -> None:
    deep = b'{"a": ' + b"[" * 1000 + b"%d" % LARGE + b"]" * 1000 + b"}"
    many = orjson.dumps({"a": [1]}).replace(b"1", b",".join([b"%d" % LARGE] * 1000))
    for body in (deep, many):
        with pytest.raises(Problem) as refused:
            parse_object(body)
        assert 1 <= len(refused.value.to_document()["errors"]) <= 20


def test_a_long_name_is_not_written_for_every_number_under_it() -> None:
    body = b'{"%b": [%b%d, %d]}' % (b"n" * 20_000, b"1," * 20_000, LARGE, LARGE)
    tracemalloc.start()
    with pytest.raises(Problem) as refused:
        parse_object(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [each["pointer"][-6:] for each in refused.value.errors] == ["/20000"]
    assert peak < 20_000_000


def test_an_item_of_a_batch_says_where_it_is() -> None:
    judge = Judge(UUID(int=7), make_key("a@x.org"), datetime.now(UTC), "00-t", AttachmentRules(), 10_000, 10_000)
    item = b'{"to": "a@x.org", "subject": "s", "text": "t", "metadata": {"order": %d}}' % LARGE
    bad = judge.judge(Piece(1, 1, item, len(item)))
    assert isinstance(bad, BadItem)
    assert bad.problem["errors"][0]["pointer"] == "/metadata/order"


def test_a_row_of_a_file_is_left_out() -> None:
    reader = JsonReader("attributes")
    first, second = b'{"address": "a@x.org", "attributes": {"id": %d}}\n' % LARGE, b'{"address": "b@x.org", "id": 5}\n'
    bad, row = reader.feed(first + second)
    assert isinstance(bad, BadRow)
    assert bad.field == "attributes"
    assert "64 bits" in bad.detail
    assert not isinstance(row, BadRow)
