"""Faults on purpose: a process told so by MILENA_TEST_FAILPOINTS dies, hangs or forgets at a named point. Tests only.

Without that setting nothing is armed and a point costs one look into an empty table. The points:

- `<stage>.before` and `<stage>.after` (kill, term, stop, hang; before also fail), the boundaries of every stage;
- `database.answered` (marks: the statement) and `publisher.acknowledged` (marks: the records), where `lose` belongs:
  it is done, and whoever asked does not hear of it.
"""

import asyncio
import os
import re
import signal
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import structlog

from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

DATABASE_ANSWERED, PUBLISHER_ACKNOWLEDGED = "database.answered", "publisher.acknowledged"
EVERYWHERE = (DATABASE_ANSWERED, PUBLISHER_ACKNOWLEDGED)
_SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}
_FORM = re.compile(
    r"(?P<point>[a-z_.-]+)(\[(?P<mark>[^\]]+)\])?"
    r"=(?P<action>kill|term|stop|fail|lose|hang:\d+(\.\d+)?)(@(?P<hit>\d+|\*))?"
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

    Actions: `kill`, `term` and `stop` (SIGKILL, SIGTERM or SIGSTOP to itself; whoever has asked for the last one sends
    SIGCONT), `fail` (an exception), `lose` (the answer to what was done), `hang:SECONDS`. Raises ValueError.
    """
    found: dict[str, list[_Failpoint]] = {}
    for part in filter(None, (part.strip() for part in spec.split(","))):
        match = _FORM.fullmatch(part)
        if not match:
            raise ValueError("write point=kill|term|stop|fail|lose|hang:SECONDS, with [mark] and @hit where wanted")
        hit = None if match["hit"] == "*" else int(match["hit"] or 1)
        mark = match["mark"].encode() if match["mark"] else None
        found.setdefault(match["point"], []).append(_Failpoint(match["action"], mark, hit))
    return found


def name_points(stages: Iterable[str]) -> tuple[str, ...]:
    """Every point of a process that has these stages."""
    return *(f"{stage}.{side}" for stage in stages for side in ("before", "after")), *EVERYWHERE


def arm_failpoints(spec: str, known: Collection[str]) -> None:
    """At the start of a process; an empty `spec` arms nothing.

    Raises ValueError for a point that is not among the `known`: it would never be reached, and prove nothing.
    """
    wanted = parse_failpoints(spec)
    if unknown := sorted(wanted.keys() - set(known)):
        raise ValueError(f"there is no point {', '.join(unknown)}; write one of {', '.join(known)}")
    _armed.update(wanted)
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
    if action in _SIGNALS:
        os.kill(os.getpid(), _SIGNALS[action])
    elif action == "fail":
        raise FailpointReached(point)
    elif action == "lose":
        raise AnswerLost(f"failpoint {point}")
    else:
        await asyncio.sleep(float(action.removeprefix("hang:")))
