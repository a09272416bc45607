"""Values that need no trial: whatever is allowed does render, to one line of subject, and shows no image of its own."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from services.scheduler.batches.filling import Certain
from shared.templates import OUTPUT_LIMIT, render_content

_pieces = st.sampled_from(
    ["{{ a }}", "{{ b }}", "{{a}}", "c", "ci", "cid", "d:", "id:", ":", "Hi ", "<p>", "{", "}", "{%", "'"]
)
templates = st.lists(_pieces, max_size=5).map("".join)
values: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["c", "ci", "C", "cid:x", "id", "a\nb", "a\rb", "\x00", "Ann", "<&>'\"/", "ü", "\u2028", ""]),
    st.sampled_from([1, -5, 2**63, 2**70, 1.5, None, True, [], {}]),
    st.integers(900, 1100).map(lambda length: "'" * length),
)


@given(templates, templates, st.dictionaries(st.sampled_from(["a", "b", "self", "x"]), values))
@example("{{ a }}", "c{{ a }}", {"a": "id:"})
@example("{{ a }}", "c{{ a }}d:", {"a": "i"})
@example("{{ a }}", "{{ a }}{{ b }}:", {"a": "c", "b": "id"})
@example("{{ a }}", "Hi", {"a": "one\ntwo"})
@example("Hi", "Hi", {"self": 1})
def test_what_is_certain_renders_to_one_line_and_no_image(subject: str, html: str, variables: dict[str, Any]) -> None:
    certain = Certain.of(subject, None, html)
    if certain and certain.allows(variables):
        rendered = render_content(subject, None, html, variables)
        assert "\n" not in rendered.subject and "\r" not in rendered.subject
        shown = (rendered.html or "").lower()
        assert "cid:" not in shown or "cid:" in html


def test_a_name_and_a_number_are_certain() -> None:
    certain = Certain.of("Hi {{ name }}", "{{ number }} of them", "<p>{{ name }}, {{ number }}</p>")
    assert certain and certain.allows({"name": "O'Brien & Söhne", "number": 7, "spare": [1]})
    assert not certain.allows({"name": "Ann"})
    assert not certain.allows({"name": "Ann", "number": "a: b"})


def test_what_may_become_too_long_is_tried() -> None:
    assert Certain.of("Hi", "x" * (OUTPUT_LIMIT - 100) + "{{ name }}", None) is None
    assert Certain.of("Hi", "x" * (OUTPUT_LIMIT - 100_000) + "{{ name }}" * 20, None) is None
    assert Certain.of("Hi", "{% if name %}x{% endif %}", None) is None


def test_no_value_of_a_name_that_stands_there_often_is_too_much_for_the_engine() -> None:
    variables = {"name": "x" * 1000}
    for often in (60, 64, 65, 100):
        text = "x" * 400_000 + "{{ name }}" * often
        certain = Certain.of("Hi", text, None)
        if certain and certain.allows(variables):
            render_content("Hi", text, None, variables)
    assert Certain.of("Hi", "{{ name }}" * 60, None)
