"""Where the tags of a template are, as the engine sees them. Pure, and linear in the source's length.

What bounds a render (templates.py) looks at what stands in tags, so both must agree on where one ends:
`{% set a = "%}" ~ a ~ a %}` and `{{ {"a": {"b": 1}} ~ c }}` are one tag each. Where the engine accepts a tag, its
brackets are balanced and its texts closed; what is neither is refused here, before anybody looks for its end twice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_OPENING = re.compile(r"\{[%{#]")
_MARK = re.compile(r"[\"'()\[\]{}%]")
_STRING = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'", re.DOTALL)
_STATEMENT = re.compile(r"[-+]?\s*(\w+)")
_END_OF_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_CLOSINGS = {"{{": "}}", "{%": "%}"}


class OpenTag(ValueError):
    """A tag, a comment, a text in quotes or `raw` has no end; the argument says which, and on what line."""

    def __init__(self, what: str, source: str, position: int) -> None:
        super().__init__(f"{what} is not closed (line {count_line(source, position)})")


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag from `start` to `end`. `statement` is None in `{{ }}` and comments; `rest` has '' for every text."""

    start: int
    end: int
    statement: str | None = None
    rest: str = ""


def find_tags(source: str) -> Iterator[Tag]:
    """Every tag in its order; what `raw` encloses is text. Raises OpenTag."""
    position = 0
    while opening := _OPENING.search(source, position):
        tag = _read_comment(source, opening) if opening[0] == "{#" else _read_tag(source, opening)
        yield tag
        position = tag.end
        if tag.statement == "raw":
            ending = _END_OF_RAW.search(source, position)
            if not ending:
                raise OpenTag("{% raw %}", source, tag.start)
            yield Tag(ending.start(), ending.end(), "endraw")
            position = ending.end()


def count_line(source: str, position: int) -> int:
    """The line of a position, from 1."""
    return source.count("\n", 0, position) + 1


def _read_comment(source: str, opening: re.Match[str]) -> Tag:
    end = source.find("#}", opening.end())
    if end < 0:
        raise OpenTag("a comment", source, opening.start())
    return Tag(opening.start(), end + 2)


def _read_tag(source: str, opening: re.Match[str]) -> Tag:
    closing, position, depth = _CLOSINGS[opening[0]], opening.end(), 0
    pieces: list[str] = []
    while mark := _MARK.search(source, position):
        pieces.append(source[position : mark.start()])
        position = mark.end()
        if depth <= 0 and source.startswith(closing, mark.start()):
            return _build(opening, "".join(pieces), mark.start() + len(closing))
        if mark[0] in "\"'":
            text = _STRING.match(source, mark.start())
            if not text:
                raise OpenTag("a text in quotes", source, mark.start())
            pieces.append("''")
            position = text.end()
            continue
        depth += (mark[0] in "([{") - (mark[0] in ")]}")
        pieces.append(mark[0])
    raise OpenTag("a tag", source, opening.start())


def _build(opening: re.Match[str], body: str, end: int) -> Tag:
    if opening[0] == "{{":
        return Tag(opening.start(), end, None, body)
    statement = _STATEMENT.match(body)
    if not statement:
        return Tag(opening.start(), end, "", body)
    return Tag(opening.start(), end, statement[1], body[statement.end() :])
