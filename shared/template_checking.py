"""What can be said of a template before anybody renders it: whether it is one, and which variables it asks for. Pure.

A render finds what is wrong on its own way only; an unknown filter behind `{% if %}` would wait for the first mail that
goes there.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from shared.template_tags import Tag, count_line, find_tags
from shared.templates import TemplateError, check_syntax, render_field

_FUNCTIONS = frozenset({"range", "dict"})
_FILTER = re.compile(r"\|\s*([A-Za-z_]\w*)")
_TEST = re.compile(r"\bis\s+(?:not\s+)?([A-Za-z_]\w*)")
_OPTIONAL = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\s*(?:\|\s*default\b|is\s+(?:not\s+)?defined\b)")


@dataclass(frozen=True, slots=True)
class Needs:
    """The variables of a template; `optional` are those it asks for with `|default(…)` or `is defined` somewhere."""

    names: frozenset[str]
    optional: frozenset[str]


def check_template(field: str, source: str) -> Needs:
    """Check one field (subject, text or html). Raises TemplateError."""
    names = check_syntax(field, source) - _FUNCTIONS
    optional: set[str] = set()
    for tag in find_tags(source):
        unknown = _find_unknown(tag)
        if unknown:
            raise TemplateError(field, f"{unknown} is unknown (line {count_line(source, tag.start)})")
        optional.update(_OPTIONAL.findall(tag.rest))
    return Needs(names, names & optional)


def _find_unknown(tag: Tag) -> str | None:
    """A filter or test that the engine does not know."""
    for kind, pattern, probe in (("filter", _FILTER, "{{ '' | %s }}"), ("test", _TEST, "{{ '' is %s }}")):
        for name in pattern.findall(tag.rest):
            if not _is_known(probe % name, f"{kind} {name} is unknown"):
                return f"{kind} {name}"
    return None


@lru_cache(maxsize=1000)
def _is_known(probe: str, complaint: str) -> bool:
    """Whatever else the engine finds wrong with the probe, for want of arguments say: the name is known then."""
    try:
        render_field("text", probe, {})
    except TemplateError as exc:
        return complaint not in exc.detail
    return True
