"""Templates of text and names alone: whatever is filled in by joining is what the engine would have said."""

from typing import Any

import minijinja
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.placeholders import take_apart
from shared.templates import TemplateError, render_content

_TAGS = ("{{ a }}", "{{b}}", "{{  a}}", "{{ true }}", "{{ not }}", "{{- a }}", "{{ a -}}", "{{ a.b }}", "{% raw %}")
_BITS = ("{{", "}}", "{", "}", "{%", "%}", "{# x #}", "Dear ", "\n", "\r\n", "\r", ".", "é", "#", "-", " ")
PIECES = st.sampled_from([*_TAGS, *_BITS])
VALUES = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats(), st.lists(st.integers(), max_size=2))


def ask_engine(source: str, variables: dict[str, Any], *, is_html: bool) -> str:
    name = "m.html" if is_html else "m.txt"
    environment = minijinja.Environment(
        templates={name: source}, keep_trailing_newline=True, undefined_behavior="strict", pycompat=False
    )
    return environment.render_template(name, **variables)


@given(st.lists(PIECES, max_size=6).map("".join), st.dictionaries(st.sampled_from("ab"), VALUES), st.booleans())
def test_what_is_joined_is_what_the_engine_renders(source: str, variables: dict[str, Any], is_html: bool) -> None:
    placeholders = take_apart(source)
    values = None if placeholders is None else placeholders.find(variables, is_html=is_html)
    if placeholders is not None and values is not None:
        assert placeholders.join(values) == ask_engine(source, variables, is_html=is_html)


def test_text_with_names_is_taken_apart() -> None:
    placeholders = take_apart("Dear {{ name }},\nyour order {{order}}.")
    assert placeholders
    assert placeholders.literals == ("Dear ", ",\nyour order ", ".")
    values = placeholders.find({"name": "A & B", "order": 7, "more": []}, is_html=True)
    assert values == ["A &amp; B", "7"]
    assert placeholders.join(values) == "Dear A &amp; B,\nyour order 7."


@pytest.mark.parametrize("source", ["{{ a|upper }}", "{% if a %}x{% endif %}", "{{ a.b }}", "{{ true }}", "{{{ a }}}"])
def test_what_says_more_is_left_to_the_engine(source: str) -> None:
    assert take_apart(source) is None


@pytest.mark.parametrize("value", [None, True, 1.5, 2**63, ["x"], {"x": "y"}])
def test_values_that_the_engine_writes_its_own_way_are_left_to_it(value: Any) -> None:
    placeholders = take_apart("{{ a }}")
    assert placeholders
    assert placeholders.find({"a": value}, is_html=False) is None


def test_bounds_and_errors_are_those_of_the_engine() -> None:
    with pytest.raises(TemplateError, match="renders to more than"):
        render_content("s", "{{ a }}{{ a }}", None, {"a": "x" * 600_000})
    with pytest.raises(TemplateError, match="variable `b` is not given"):
        render_content("s", "{{ a }}{{ b }}", None, {"a": "x"})


def test_large_values_are_left_to_the_engine_before_they_are_escaped() -> None:
    placeholders = take_apart("{{ a }}" * 200)
    assert placeholders
    assert placeholders.find({"a": "/" * 1000}, is_html=True) is None
    assert placeholders.find({"a": "/" * 300}, is_html=True) == ["&#x2f;" * 300] * 200
    with pytest.raises(TemplateError, match="renders to more than"):
        render_content("s", None, "{{ a }}" * 200, {"a": "/" * 400_000})
