"""Whose mail leaves: room is shared so that what accounts have on their way is level, then the lanes of each. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple


class Claim(NamedTuple):
    """A lane that has mail to hand out: how much of it is on its way, and how much waits."""

    lane: int
    account: str
    in_flight: int
    waiting: int


def share_out(free: int, claims: Sequence[Claim]) -> dict[int, int]:
    """How many mails each lane may hand out, by lane, none left out that gets any.

    Whoever has fewest on their way comes first, so one who comes late catches up with whoever filled the window
    before, and one whose mail is stuck takes nobody else's room. What cannot be divided goes to the first of `claims`.
    """
    by_account: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_account[claim.account].append(claim)
    accounts = list(by_account.values())
    totals = [(sum(each.in_flight for each in lanes), sum(each.waiting for each in lanes)) for lanes in accounts]
    shares: dict[int, int] = {}
    for lanes, granted in zip(accounts, _level(free, totals), strict=True):
        quotas = _level(granted, [(each.in_flight, each.waiting) for each in lanes])
        shares.update((each.lane, quota) for each, quota in zip(lanes, quotas, strict=True) if quota)
    return shares


def _level(free: int, claims: Sequence[tuple[int, int]]) -> list[int]:
    """For each (held, wanted) how many of `free` it gets, so that held and granted together are level."""
    low, high = 0, max((held + wanted for held, wanted in claims), default=0)
    while low < high:  # the highest level for which there is enough
        middle = (low + high + 1) // 2
        if sum(_fill(middle, claim) for claim in claims) <= free:
            low = middle
        else:
            high = middle - 1
    granted = [_fill(low, claim) for claim in claims]
    left = free - sum(granted)
    for index, claim in enumerate(claims):
        more = min(left, _fill(low + 1, claim) - granted[index])
        granted[index] += more
        left -= more
    return granted


def _fill(level: int, claim: tuple[int, int]) -> int:
    held, wanted = claim
    return min(wanted, max(0, level - held))
