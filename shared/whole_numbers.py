"""Whole numbers of JSON beyond 64 bits: orjson reads them as floats, which rounds them, and says nothing.

They are looked for where a body holds what its sender likes (variables, metadata, attributes, arguments), and refused:
every reader on the way would have to keep them, and most of them, in any language, do not. What was read is looked at
first, 0.1 µs a field; only where a float is so large the body is read again. A regular expression over the bytes took
ten times what reading them did.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

BEYOND = "is a whole number beyond 64 bits, and would be rounded: write it as a text"
HOLDS_BEYOND = "holds a whole number beyond 64 bits, which would be rounded: write it as a text"
_LEAST, _BEYOND = -(2**63), 2**64
_TOLD, _ROOM = 20, 10_000  # pointers, and their characters
_ROUNDED = object()


def find_rounded(body: bytes, read: Iterable[Any]) -> list[str]:
    """Pointers to numbers of the body that are not what they were; `read`: the values in which they are looked for.

    The first of them, where they are many. `body` is an object of JSON that orjson has read.
    """
    if not _holds_large(read):
        return []
    try:
        return _point_at_rounded(json.loads(body.decode(), parse_int=_read_int))
    except RecursionError:  # deeper than anything of ours may be
        return [""]


def _holds_large(read: Iterable[Any]) -> bool:
    waiting: list[Iterable[Any]] = [read]
    for values in waiting:  # not by calling itself: orjson reads what is deeper than that could go
        for each in values:
            kind = type(each)
            if kind is str:
                continue
            if kind is float:
                if not _LEAST < each < _BEYOND:
                    return True
            elif kind is dict:
                waiting.append(each.values())
            elif kind is list:
                waiting.append(each)
    return False


def _read_int(text: str) -> object:
    if len(text) < 19:
        return 0
    return 0 if _LEAST <= int(text) < _BEYOND else _ROUNDED


def _point_at_rounded(document: dict[str, Any]) -> list[str]:
    """A pointer is written only where there is one to tell: of a million numbers under a long name, each is as long."""
    found: list[str] = []
    room = _ROOM
    path: list[str | int] = []
    waiting = [_enter(document)]
    while waiting:
        for name, value in waiting[-1]:
            if value is _ROUNDED:
                found.append("".join(f"/{_escape(str(part))}" for part in (*path, name)))
                room -= len(found[-1])
                if len(found) == _TOLD or room < 0:
                    return found
            elif isinstance(value, dict | list):
                path.append(name)
                waiting.append(_enter(value))
                break
        else:
            waiting.pop()
            del path[-1:]
    return found


def _enter(value: dict[str, Any] | list[Any]) -> Iterator[tuple[str | int, Any]]:
    return iter(value.items()) if isinstance(value, dict) else enumerate(value)


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
