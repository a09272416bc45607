"""Where tags end, as the engine sees it, and what a template asks for."""

import time

import pytest

from shared.template_checking import check_template
from shared.template_tags import OpenTag, find_tags
from shared.templates import TemplateError, render_content


@pytest.mark.parametrize(
    ("source", "rest"),
    [
        ('{{ "}}" ~ a }}', " '' ~ a "),
        ("{{ '\\'}}' ~ a }}", " '' ~ a "),
        ('{{ {"a": {"b": 1}} ~ a }}', " {'': {'': 1}} ~ a "),
        ('{% set a = "%}" ~ a %}', " a = '' ~ a "),
        ("{%- if (a % b) -%}", " (a % b) -"),
    ],
)
def test_a_tag_ends_where_the_engine_ends_it(source: str, rest: str) -> None:
    (tag,) = find_tags(source)
    assert (tag.start, tag.end, tag.rest) == (0, len(source), rest)


def test_raw_and_comments_are_no_tags_within() -> None:
    source = "{%- raw -%}{{ a }}{%- endraw -%}{# {{ b }} #}{{ c }}"
    assert [(tag.statement, tag.rest.strip(" -")) for tag in find_tags(source)] == [
        ("raw", ""),
        ("endraw", ""),
        (None, ""),
        (None, "c"),
    ]


@pytest.mark.parametrize(
    "source", ["\n{{ a", "\n{% if a }}", "\n{# a", "\n{{ 'a }}", "\n{% raw %}{{ a }}", "\n{{ (a }}"]
)
def test_what_has_no_end_is_refused_with_its_line(source: str) -> None:
    with pytest.raises(OpenTag, match=r"is not closed \(line 2\)"):
        list(find_tags(source))


@pytest.mark.parametrize(
    "source",
    [
        '{% set a = "%}" ~ a ~ a %}{{ a }}',
        '{{ "}}" * 9 }}',
        '{{ {"a": {"b": 1}} ~ "x" * 9 }}',
        '{% for b in ["%}" ~ a] %}{{ b }}{% endfor %}',
    ],
)
def test_an_end_in_a_text_or_a_mapping_hides_nothing_from_the_bounds(source: str) -> None:
    with pytest.raises(TemplateError, match=r"must not build values|is not available"):
        render_content(source, None, None, {"a": "x"})


@pytest.mark.parametrize("piece", ["{{", "{%", "{% if", "{{ '", "{#", "{{ '\\'", "{% raw %}{{", '{{ "'])
def test_what_never_ends_is_refused_in_no_time(piece: str) -> None:
    began = time.monotonic()
    with pytest.raises(TemplateError):
        render_content("", piece * 20_000, None, {})
    assert time.monotonic() - began < 1, "it is looked at once"


def test_what_a_template_asks_for_is_known_without_a_render() -> None:
    needs = check_template(
        "html",
        "{{ user.name }}{% for item in items %}{{ item }}{{ loop.index }}{% endfor %}{% set local = 1 %}{{ local }}"
        "{% if never %}{{ range(3)|join(sign) }}{% endif %}{{ nick|default('you') }}"
        "{% if bonus is defined %}{{ bonus }}{% endif %}{{ user.nick|default('x') }}{% raw %}{{ nothing }}{% endraw %}",
    )
    assert needs.names == {"user", "items", "never", "sign", "nick", "bonus"}
    assert needs.optional == {"nick", "bonus"}


@pytest.mark.parametrize(
    ("source", "detail"),
    [
        ("\n{% if never %}{{ x | shout }}{% endif %}", r"filter shout is unknown \(line 2\)"),
        ("\n\n{% if x is not shiny %}{% endif %}", r"test shiny is unknown \(line 3\)"),
        ("{{ x|pprint }}", "filter pprint is unknown"),
        ("\n{% if x %}", r"line 2"),
        ("\n{{ x y }}", r"line 2"),
        ("{% include 'x' %}", "include %} is not available"),
    ],
)
def test_what_would_fail_in_a_mail_is_found_before(source: str, detail: str) -> None:
    with pytest.raises(TemplateError, match=detail):
        check_template("html", source)
