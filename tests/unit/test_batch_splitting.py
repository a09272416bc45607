"""Uploads taken apart: whatever the pieces they come in, the items are the same."""

import json
import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.batches.splitting import ArraySplitter, LineSplitter, NoList, Piece, Splitter

LIMIT = 10_000
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.sampled_from(['"', "\\", '\\"', "[{", "}],"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def split(splitter: Splitter, parts: Iterable[bytes]) -> list[Piece]:
    found = [piece for part in parts for piece in splitter.feed(part)]
    return [*found, *splitter.end()]


def cut(text: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(ends)]


@given(
    st.lists(json_values, max_size=6), st.lists(st.integers(0, 10_000), max_size=8), st.booleans(), st.integers(0, 3)
)
def test_an_array_has_its_elements_wherever_it_is_cut(
    values: list[object], places: list[int], is_ascii: bool, indent: int
) -> None:
    text = json.dumps(values, ensure_ascii=is_ascii, indent=indent or None).encode("utf-8", "surrogatepass")
    pieces = split(ArraySplitter(LIMIT), cut(text, places))
    assert [json.loads(piece.value or b"") for piece in pieces] == values
    assert [piece.number for piece in pieces] == list(range(1, len(values) + 1))


@given(st.lists(json_values, max_size=6), st.lists(st.integers(0, 10_000), max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_lines_are_items_wherever_they_are_cut(values: list[object], places: list[int], end: str) -> None:
    text = "".join(json.dumps(value) + end for value in values).encode()
    pieces = split(LineSplitter(LIMIT), cut(text, places))
    assert [json.loads(piece.value or b"") for piece in pieces] == values
    assert [piece.line for piece in pieces] == list(range(1, len(values) + 1))


def test_a_byte_at_a_time_is_no_different() -> None:
    text = b'\xef\xbb\xbf [ {"a": "\\"]\\\\"}, [1, {}], "x,y" ,null] \n'
    whole = split(ArraySplitter(LIMIT), [text[:3], text[3:]])
    assert [piece.value for piece in whole] == [b'{"a": "\\"]\\\\"}', b"[1, {}]", b'"x,y"', b"null"]
    assert split(ArraySplitter(LIMIT), [text[i : i + 1] for i in range(len(text))]) == whole


def test_empty_lines_count_as_lines_and_not_as_items() -> None:
    pieces = split(LineSplitter(LIMIT), [b"\xef\xbb\xbf{}\n\n \t\n[]"])
    assert [(piece.number, piece.line, piece.value) for piece in pieces] == [(1, 1, b"{}"), (2, 4, b"[]")]


@pytest.mark.parametrize("kind", [LineSplitter, ArraySplitter])
def test_what_is_too_long_is_passed_over_and_told(kind: type[LineSplitter | ArraySplitter]) -> None:
    long = b'"%b"' % (b"x" * 98)
    text = b"\n".join([b"{}", long, b"[]"]) if kind is LineSplitter else b"[{},%b,[]]" % long
    pieces = split(kind(99), [text[i : i + 7] for i in range(0, len(text), 7)])
    assert [(piece.value, piece.size) for piece in pieces] == [(b"{}", 2), (None, 100), (b"[]", 2)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "empty"),
        (b"  ", "empty"),
        (b'{"emails": []}', "does not begin"),
        (b"[1, 2", "no end"),
        (b'["a', "no end"),
        (b"[1,,2]", "missing, at byte 4"),
        (b"[1,]", "missing"),
        (b"[1] x", "follows"),
        (b"[1}]", "brace"),
    ],
)
def test_what_is_no_array_is_refused_with_its_place(text: bytes, words: str) -> None:
    with pytest.raises(NoList, match=words):
        split(ArraySplitter(LIMIT), [text])
    with pytest.raises(NoList):
        split(ArraySplitter(LIMIT), [text[i : i + 1] for i in range(len(text))])


@pytest.mark.parametrize("text", [b'["' + b"\\" * 400_000, b'["' + b'\\"' * 200_000, b"[" * 400_000, b'"' * 400_000])
def test_no_text_makes_it_slow(text: bytes) -> None:
    began = time.process_time()
    for kind in (ArraySplitter, LineSplitter):
        splitter = kind(LIMIT)
        try:
            for start in range(0, len(text), 1024):
                list(splitter.feed(text[start : start + 1024]))
        except NoList:
            pass
    assert time.process_time() - began < 2
