"""What a template may do, and what it must not be able to do to us."""

import time
import weakref
from typing import Any

import pytest

from shared import templates
from shared.templates import RenderedContent, TemplateError, render_content


def render_html(source: str, **variables: Any) -> str:
    rendered = render_content("", None, source, variables).html
    assert rendered is not None
    return rendered


def test_html_is_escaped_and_the_other_fields_are_not() -> None:
    rendered = render_content("Hi {{ n }}", "Hi {{ n }}\n", "<b>{{ n }}</b>\n", {"n": "A & <B>"})
    assert rendered == RenderedContent("Hi A & <B>", "Hi A & <B>\n", "<b>A &amp; &lt;B&gt;</b>\n")


def test_absent_fields_stay_absent() -> None:
    assert render_content("s", None, None, {}) == RenderedContent("s", None, None)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("Hi {{ nme }}", ("nme",)),
        ("{% if nme %}x{% endif %}", ("nme",)),
        ("{{ user.nme }}", ("user", "nme")),
        ("{{ nme|upper }}", ("nme",)),
        ("{% for item in items %}{{ item.price }}{% endfor %}", ()),
    ],
)
def test_an_undefined_variable_is_an_error_that_names_it(source: str, named: tuple[str, ...]) -> None:
    with pytest.raises(TemplateError, match=r"`[a-z.]+` is not given \(line 1\)") as caught:
        render_html(source, name="Ann", user={"name": "Ann"}, items=[{"name": "x"}])
    assert caught.value.field == "html"
    assert caught.value.variable == named


def test_the_error_does_not_repeat_the_variables() -> None:
    with pytest.raises(TemplateError) as caught:
        render_html("{{ user.nme }}", user={"secret": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_everyday_templates_render() -> None:
    source = (
        "{% for item in items %}{{ loop.index }}. {{ item.name|upper }}: {{ '%.2f'|format(item.price) }}"
        "{% if not loop.last %}; {% endif %}{% endfor %} {{ tags|join(', ') }} {{ note|default('none') }} {{ nothing }}"
    )
    items = [{"name": "tea", "price": 3.5}, {"name": "<milk>", "price": 1}]
    assert render_html(source, items=items, tags=["a", "b"], nothing=None) == (
        "1. TEA: 3.50; 2. &lt;MILK&gt;: 1.00 a, b none "
    )


def test_a_subject_must_be_one_line_after_rendering() -> None:
    with pytest.raises(TemplateError, match="CR, LF") as caught:
        render_content("Hi {{ n }}", None, None, {"n": "x\r\nBcc: evil@example.com"})
    assert caught.value.field == "subject"


def test_a_template_cannot_change_what_later_fields_see() -> None:
    with pytest.raises(TemplateError):
        render_content("{{ xs.clear() }}", None, None, {"xs": [1]})
    with pytest.raises(TemplateError):
        render_content("{{ user.pop('name') }}", None, None, {"user": {"name": "Ann"}})


@pytest.mark.parametrize(
    "source",
    [
        "{{ x.__class__ }}",
        "{% include 'other' %}",
        "{% macro f(a) %}{{ a }}{{ a }}{% endmacro %}{{ f(f(x)) }}",
        "{{ x",
        "{{ x|no_such_filter }}",
        "{{ " + "(" * 5000 + "x" + ")" * 5000 + " }}",
        "{{ '%999999999d'|format(1) }}",
        "{{ '%d'|format(x) }}",
    ],
)
def test_what_is_not_allowed_is_refused_with_words(source: str) -> None:
    with pytest.raises(TemplateError, match=r"html: .+"):
        render_html(source, x="s")


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{{ big }}{% endfor %}",
        "{% for a in range(9999) %}" + "x" * 50_000 + "{% endfor %}",
        "{{ 'x' * 300000000 }}",
        "{{ [['x'] * 9999] * 9999 }}",
        "{% set a = big %}" + "{% set a = a ~ a %}" * 30 + "{{ a }}",
        "{% set a = [big] %}" + "{% set a = [a, a] %}" * 30 + "{{ a }}",
        "{% set n = namespace(a=big) %}{% for i in range(30) %}{% set n.a = n.a ~ n.a %}{% endfor %}",
        "{% for a in [big ~ big] %}{% for b in [a ~ a] %}{{ b }}{% endfor %}{% endfor %}",
        "{{ big|replace('x', big)|replace('x', big) }}",
        "{{ big|list|join(big)|list|join(big) }}",
        "{% set a = big %}" + "{% set a = a|list|join(a) %}" * 5 + "{{ a }}",
        "{{ big|tojson" + "|tojson" * 30 + " }}",
        "{{ 'x'|indent(1000000000) }}",
    ],
)
def test_a_bomb_ends_quickly(source: str) -> None:
    began = time.monotonic()
    with pytest.raises(TemplateError):
        render_html(source, big="x" * 10_000)
    assert time.monotonic() - began < 1.0


def test_a_compiled_template_is_kept_and_renders_anew() -> None:
    assert [render_html("Hi {{ n }}", n=n) for n in ("Ann", "Bob")] == ["Hi Ann", "Hi Bob"]
    assert render_content("Hi {{ n }}", None, None, {"n": "<"}).subject == "Hi <"


def test_a_variable_called_self_is_refused() -> None:
    with pytest.raises(TemplateError) as caught:
        render_content("x", None, None, {"self": 1})
    assert caught.value.variable == ("self",)


def test_a_template_that_is_not_kept_any_more_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's objects are hidden from Python's collector: a circle through one would stay for ever."""
    monkeypatch.setattr(templates, "_CACHE_SOURCES", 1)
    compiled = weakref.ref(templates._compile("first {{ n }}", is_html=True))
    assert compiled() is not None
    templates._compile("second {{ n }}", is_html=True)
    assert compiled() is None
