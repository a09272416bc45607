"""Templates of mails: minijinja, made safe for text that callers write.

`{{ name }}`, filters, `{% if %}`, `{% for %}`, `{% set %}`, `{% raw %}`. An undefined variable is an error, null
renders as nothing. HTML is escaped, subject and text are not. Rendering is synchronous and takes microseconds:
templates are compiled once and kept, by their source.

What a render may cost is bounded, in time and in memory. Fuel bounds the instructions and a meter the output; the
engine itself has no bound on memory, so nothing that a loop or an assignment carries on may make a value bigger than
it found it (`{% set a = a ~ a %}`, thirty times over, is a gigabyte).
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import minijinja

from shared.placeholders import take_apart
from shared.template_tags import OpenTag, find_tags

OUTPUT_LIMIT = 1024 * 1024  # characters of one rendered field
_FUEL = 100_000
_LITERAL_BUDGET = 64 * 1024 * 1024  # characters of the template's own text a render may at worst put together
_CACHE_SOURCES, _CACHE_CHARACTERS = 512, 16 * 1024 * 1024

_STATEMENTS = frozenset({"if", "elif", "else", "endif", "for", "endfor", "set", "raw", "endraw"})
_BUILDS = re.compile(r"[~+\[{]|\btojson\b|\brecursive\b")
_WIDE_FORMAT = re.compile(r"%[^%a-zA-Z]*(?:\d{3}|\*)")
_UNDEFINED = re.compile(r"`([^`]+)` is undefined")
_LINE_BREAK = re.compile(r"[\r\n\x00]")
# They make much out of little, faster than fuel can count.
_REMOVED_FILTERS = ("indent", "pprint", "batch", "slice", "zip", "chain", "wordwrap", "replace", "join", "format")
_REMOVED_GLOBALS = ("namespace", "debug", "joiner", "cycler")


class TemplateError(ValueError):
    """A field could not be rendered. `field` is subject, text or html; `variable` the path of a missing variable."""

    def __init__(self, field: str, detail: str, variable: tuple[str, ...] = ()) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail
        self.variable = variable


@dataclass(frozen=True, slots=True)
class RenderedContent:
    """What the templates came to."""

    subject: str
    text: str | None
    html: str | None


def render_content(subject: str, text: str | None, html: str | None, variables: Mapping[str, Any]) -> RenderedContent:
    """Render the three fields with JSON-like variables. Raises TemplateError for the first field that cannot be."""
    if "self" in variables:
        raise TemplateError("subject", "a variable must not be called `self`", ("self",))
    frozen = {name: _freeze(value) for name, value in variables.items()}
    rendered_subject = render_field("subject", subject, frozen)
    if _LINE_BREAK.search(rendered_subject):
        raise TemplateError("subject", "must not contain CR, LF or NUL once rendered")
    return RenderedContent(
        subject=rendered_subject,
        text=None if text is None else render_field("text", text, frozen),
        html=None if html is None else render_field("html", html, frozen),
    )


def check_syntax(field: str, source: str) -> frozenset[str]:
    """The names a template uses and does not set itself, functions included. Raises TemplateError where it is none."""
    try:
        _check_source(source)
        return frozenset(minijinja.Environment().undeclared_variables_in_str(source))
    except BaseException as exc:
        raise _translate(field, exc, source) from None


def render_field(field: str, source: str, variables: dict[str, Any]) -> str:
    """Render one field. Raises TemplateError."""
    if "{" not in source:
        return source
    try:
        return _compile(source, is_html=field == "html").render(variables)
    except BaseException as exc:
        raise _translate(field, exc, source) from None


def _translate(field: str, exc: BaseException, source: str) -> BaseException:
    """What a caller is told; the exception itself where it says nothing of the template."""
    if isinstance(exc, _Exceeded | OpenTag):
        return TemplateError(field, str(exc))
    if isinstance(exc, minijinja.TemplateError):
        return _explain(field, exc, source)
    if isinstance(exc, AttributeError | TypeError | ValueError | LookupError | ArithmeticError | RecursionError):
        # A method or filter in Python was called with something it does not take.
        return TemplateError(field, f"an expression cannot be evaluated: {exc}"[:200])
    if type(exc).__name__ == "PanicException":  # the engine's own failure, derived from BaseException
        return TemplateError(field, "the template engine failed on this template")
    return exc


def _explain(field: str, exc: minijinja.TemplateError, source: str) -> TemplateError:
    detail = exc.detail or exc.message.partition(" (in ")[0]
    where = f" (line {exc.line})" if exc.line else ""
    undefined = _UNDEFINED.search(detail)
    if not undefined:
        return TemplateError(field, f"{detail}{where}")
    path = tuple(undefined[1].split("."))
    given = path[0] in minijinja.Environment().undeclared_variables_in_str(source)  # not the loop's own
    return TemplateError(field, f"variable `{undefined[1]}` is not given{where}", path if given else ())


class _Exceeded(Exception):
    """A bound of this module; the message is for the template's author."""


class _Compiled:
    """One template, ready to render any number of times; not for several threads at once."""

    def __init__(self, source: str, *, is_html: bool) -> None:
        longest = _check_source(source)
        self._name = "mail.html" if is_html else "mail.txt"
        self._fuel = min(_FUEL, _LITERAL_BUDGET // max(longest, 1))
        self._meter = _Meter()
        self._is_html = is_html
        self._placeholders = take_apart(source)
        self._environment = environment = minijinja.Environment(
            templates={self._name: source},
            undefined_behavior="strict",
            keep_trailing_newline=True,
            pycompat=False,
            finalizer=self._meter,
            fuel=self._fuel,
        )
        for name in _REMOVED_FILTERS:
            environment.remove_filter(name)
        for name in _REMOVED_GLOBALS:
            environment.add_global(name, None)
        environment.add_filter("replace", _replace)
        environment.add_filter("join", _join)
        environment.add_filter("format", _format)

    def render(self, variables: dict[str, Any]) -> str:
        rendered = self._fill_in(variables)
        if rendered is None:
            self._meter.put_out = 0
            rendered = self._environment.render_template(self._name, **variables)
        if len(rendered) > OUTPUT_LIMIT:
            raise _Exceeded(f"renders to more than {OUTPUT_LIMIT} characters")
        return rendered

    def _fill_in(self, variables: dict[str, Any]) -> str | None:
        """The short way, for what is nothing but text and names."""
        if self._placeholders is None:
            return None
        values = self._placeholders.find(variables, is_html=self._is_html)
        return None if values is None else self._placeholders.join(values)


class _Meter:
    """Counts what a render puts out.

    An object of its own: the engine's are not seen by Python's collector, and one that led back to the template that
    holds it would keep both for ever (10 KiB for each template, measured over 100,000).
    """

    def __init__(self) -> None:
        self.put_out = 0

    def __call__(self, value: Any) -> Any:
        """Called by the engine with every value it is about to put out."""
        if value is None:
            return ""
        self.put_out += len(value) if isinstance(value, str) else 16
        if self.put_out > OUTPUT_LIMIT:
            raise _Exceeded(f"renders to more than {OUTPUT_LIMIT} characters")
        return value


_cache: OrderedDict[tuple[bool, str], _Compiled] = OrderedDict()
_cached_characters = 0


def _compile(source: str, *, is_html: bool) -> _Compiled:
    global _cached_characters  # noqa: PLW0603  the cache belongs to the process, as the engine's does
    found = _cache.get((is_html, source))
    if found:
        _cache.move_to_end((is_html, source))
        return found
    compiled = _cache[(is_html, source)] = _Compiled(source, is_html=is_html)
    _cached_characters += len(source)
    while len(_cache) > _CACHE_SOURCES or _cached_characters > _CACHE_CHARACTERS:
        (_, dropped), _ = _cache.popitem(last=False)
        _cached_characters -= len(dropped)
    return compiled


def _check_source(source: str) -> int:
    """The length of the longest piece of plain text. Raises _Exceeded for what could grow without bound, OpenTag."""
    longest = end = 0
    for tag in find_tags(source):
        longest = max(longest, tag.start - end)
        end = tag.end
        statement, rest = tag.statement, tag.rest
        if statement and statement not in _STATEMENTS:
            raise _Exceeded(f"{{% {statement} %}} is not available; use if, for, set and raw")
        if "*" in rest:
            raise _Exceeded("`*` is not available; give the product as a variable")
        if statement in {"for", "set"} and _BUILDS.search(rest):
            raise _Exceeded(f"{{% {statement} %}} must not build values (~ + [ {{ tojson recursive)")
        if rest.count("tojson") > 1 or "tojson(" in rest.replace(" ", ""):
            raise _Exceeded("tojson takes no arguments, and stands once in an expression")
    return max(longest, len(source) - end)


def _freeze(value: Any) -> Any:
    """Read-only: templates can call methods, and `items.clear()` would empty what later fields need."""
    if type(value) is str:  # asked first: the abstract class answers slowly
        return value
    if isinstance(value, Mapping):
        return MappingProxyType({str(key): _freeze(each) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return tuple(_freeze(each) for each in value)
    return value


def _replace(value: Any, old: str, new: str) -> str:
    text = str(value)
    if len(text) + text.count(old) * (len(new) - len(old)) > OUTPUT_LIMIT:
        raise _Exceeded("the filter replace makes too long a text")
    return text.replace(old, new)


def _join(values: Any, separator: str = "", attribute: str | None = None) -> str:
    parts = [str(each if attribute is None else each[attribute]) for each in values]
    if sum(map(len, parts)) + len(separator) * len(parts) > OUTPUT_LIMIT:
        raise _Exceeded("the filter join makes too long a text")
    return separator.join(parts)


def _format(template: str, *values: Any) -> str:
    if _WIDE_FORMAT.search(template):
        raise _Exceeded("the filter format takes widths below 100")
    try:
        return str(template) % values
    except (TypeError, ValueError) as exc:
        raise _Exceeded(f"the filter format: {exc}") from None
