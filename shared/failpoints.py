"""Faults on purpose: a process told so by MILENA_TEST_FAILPOINTS dies, hangs or forgets at a named point. Tests only.

Without that setting nothing is armed and a point costs one look into an empty table. The points:

- `<stage>.before` and `<stage>.after` (kill, hang; before also fail), the boundaries of every stage;
- `database.answered` (marks: the statement) and `publisher.acknowledged` (marks: the records), where `lose` belongs:
  it is done, and whoever asked does not hear of it.
"""

import asyncio
import os
import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

_FORM = re.compile(
    r"(?P<point>[a-z_.-]+)(\[(?P<mark>[^\]]+)\])?=(?P<action>kill|fail|lose|hang:\d+(\.\d+)?)(@(?P<hit>\d+|\*))?"
)


class AnswerLost(Unavailable):
    """The action `lose`: what was done is done, and whoever asked does not hear of it."""


class FailpointReached(Exception):
    """The action `fail`: a bug, as far as the product can tell."""


@dataclass(slots=True)
class _Failpoint:
    """`hit`: at which arrival it acts, None for every one. `mark` must occur in what is being worked on."""

    action: str
    mark: bytes | None
    hit: int | None
    arrivals: int = 0


_armed: dict[str, list[_Failpoint]] = {}


def parse_failpoints(spec: str) -> dict[str, list[_Failpoint]]:
    """`claim.after=lose@2,decode.before[poison]=kill@*` → by point. Without `@` the first arrival counts.

    Actions: `kill` (SIGKILL to itself), `fail` (an exception), `lose` (the answer to what was done), `hang:SECONDS`.
    Raises ValueError.
    """
    found: dict[str, list[_Failpoint]] = {}
    for part in filter(None, (part.strip() for part in spec.split(","))):
        match = _FORM.fullmatch(part)
        if not match:
            raise ValueError("write point=kill|fail|lose|hang:SECONDS, with [mark] and @hit where wanted")
        hit = None if match["hit"] == "*" else int(match["hit"] or 1)
        mark = match["mark"].encode() if match["mark"] else None
        found.setdefault(match["point"], []).append(_Failpoint(match["action"], mark, hit))
    return found


def arm_failpoints(spec: str) -> None:
    """At the start of a process; an empty `spec` arms nothing. Raises ValueError."""
    _armed.update(parse_failpoints(spec))
    if _armed:
        log.warning("failpoints armed, for tests only", points=sorted(_armed))


def has_failpoint(point: str) -> bool:
    """Whether anything can happen at `point`: asked before the marks are gathered."""
    return point in _armed


async def reach_failpoint(point: str, marks: Iterable[bytes] = ()) -> None:
    """Do what is to happen here. Raises AnswerLost or FailpointReached, or does not return."""
    for each in _armed.get(point, ()):
        if each.mark and not any(each.mark in mark for mark in marks):
            continue
        each.arrivals += 1
        if each.hit in (None, each.arrivals):
            await _act(point, each.action)


async def _act(point: str, action: str) -> None:
    log.warning("failpoint reached", point=point, action=action)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "fail":
        raise FailpointReached(point)
    elif action == "lose":
        raise AnswerLost(f"failpoint {point}")
    else:
        await asyncio.sleep(float(action.removeprefix("hang:")))
