"""Templates of nothing but text and `{{ name }}`: taken apart once, filled in by joining. Pure.

Most mails sent in bulk are such templates. The engine (templates.py) takes 8 µs and more for one, this takes one
or two, and whoever encodes the text around the names can do that once for all recipients. What comes out is the
engine's own result; wherever that is not certain, nothing comes out, and the engine decides.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_NAME = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
_CONSTANTS = frozenset({"true", "True", "false", "False", "none", "None", "not"})
_NAMES_LIMIT = 200
_VALUES_LIMIT = 64 * 1024  # characters of all values, before they are escaped
_INT_LIMIT = 2**63  # beyond it the engine has its own ideas
_SPECIAL = re.compile("[&<>\"'/]")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;", "/": "&#x2f;"})


@dataclass(frozen=True, slots=True)
class Placeholders:
    """A template taken apart: `literals` is one longer than `names`, and between two literals stands a name."""

    literals: tuple[str, ...]
    names: tuple[str, ...]

    def find(self, variables: Mapping[str, Any], *, is_html: bool) -> list[str] | None:
        """Each name's value as it is put out; None where only the engine can tell, or has to count what comes out."""
        values, room = [], _VALUES_LIMIT
        for name in self.names:
            value = variables.get(name)
            if type(value) is str:
                room -= len(value)
                if room < 0:
                    return None
                values.append(value.translate(_ESCAPES) if is_html and _SPECIAL.search(value) else value)
            elif type(value) is int and -_INT_LIMIT < value < _INT_LIMIT:
                values.append(str(value))
            else:
                return None
        return values

    def join(self, values: list[str]) -> str:
        """The text with the values in their places."""
        pieces = [self.literals[0]]
        for value, literal in zip(values, self.literals[1:], strict=True):
            pieces += (value, literal)
        return "".join(pieces)


def take_apart(source: str) -> Placeholders | None:
    """None where the template says more than names, or so much that its bounds are the engine's business."""
    pieces = _NAME.split(source)
    literals, names = pieces[::2], pieces[1::2]
    if len(names) > _NAMES_LIMIT or not _CONSTANTS.isdisjoint(names):
        return None
    if any(mark in literal for literal in literals for mark in ("{{", "{%", "{#")):
        return None
    # A brace right before or behind a name would be read with it: {{{ name }}, {{ name }}}.
    if any(before.endswith("{") or behind.startswith("}") for before, behind in pairwise(literals)):
        return None
    return Placeholders(tuple(literals), tuple(names))
