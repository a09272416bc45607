"""How a relay's limits are divided among the sender processes. Pure.

Each process asks every second, under the relay's lock, and gets at most what the others do not hold at that moment, so
the sum never exceeds the limit. Whoever holds more than his part gives it up at his next turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

PACED = 0.98
"""Of a limit on mails per second is handed out: what single processes round up must not lift the sum above it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one relay takes from all processes together; `mails_per_second` None: as many as it can."""

    relay: str
    kind: str
    priority: int
    connections: int
    mails_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """One process's wish: connections and mails per second it could use now, and connections it has open."""

    process: UUID
    connections: int
    rate: float
    open: int = 0


@dataclass(frozen=True, slots=True)
class Holding:
    """What another process wished for and holds, until its lease ends."""

    process: UUID
    wanted_connections: int
    wanted_rate: float
    connections: int
    rate: float


@dataclass(frozen=True, slots=True)
class Share:
    """What a process may use of a relay until its next turn; `rate` None: no limit on mails per second.

    `held`: connections that nobody else may have, those still open beyond the share among them.
    """

    connections: int
    rate: float | None = None
    held: int = 0


def assign(limits: Limits, wish: Wish, others: Sequence[Holding], turn: int) -> Share:
    """The share of whoever asks. `turn` grows by one every few seconds.

    Where there are fewer connections than processes, whose turn it is decides who has one.
    """
    order = sorted([wish.process, *(each.process for each in others)])
    wanted = {each.process: each.wanted_connections for each in others} | {wish.process: wish.connections}
    if limits.connections < len(order):
        first = turn % len(order)
        order = order[first:] + order[:first]
    parts = dict(zip(order, divide_whole(limits.connections, [wanted[each] for each in order]), strict=True))
    free = max(0, limits.connections - sum(each.connections for each in others))
    connections = min(parts[wish.process], free)
    rate = None
    if limits.mails_per_second is not None:
        rate = _assign_rate(limits.mails_per_second * PACED, wish, others)
    return Share(connections, rate, max(connections, wish.open))


def _assign_rate(limit: float, wish: Wish, others: Sequence[Holding]) -> float:
    part = divide(limit, [wish.rate, *(each.wanted_rate for each in others)])[0]
    free = max(0.0, limit - sum(each.rate for each in others))
    return min(part, free)


def divide(limit: float, wants: Sequence[float]) -> list[float]:
    """Max-min fairness: nobody gets more than he wants, what he leaves is the others', who are equal.

    What nobody wants is given to all alike, so that whoever begins to send need not ask first.
    """
    parts = [0.0] * len(wants)
    left, open_count = limit, len(wants)
    for index in sorted(range(len(wants)), key=wants.__getitem__):
        parts[index] = min(wants[index], left / open_count)
        left -= parts[index]
        open_count -= 1
    return [each + left / len(wants) for each in parts]


def divide_whole(limit: int, wants: Sequence[int]) -> list[int]:
    """The same in whole numbers; what cannot be divided goes to the first."""
    parts = [0] * len(wants)
    left = limit
    while left and (hungry := [index for index, want in enumerate(wants) if parts[index] < want]):
        for index in hungry[:left]:
            parts[index] += 1
        left -= min(left, len(hungry))
    for index in range(left):
        parts[index % len(parts)] += 1
    return parts
