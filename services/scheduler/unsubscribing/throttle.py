"""How often one caller may ask without a key. Pure; the clock is an argument."""

import math
from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address

from shared.token_bucket import TokenBucket

WINDOW_S = 10
_CALLERS = 10_000
_OWN_BITS = 64  # of an IPv6 address: whoever has one has all that differ in these


class Throttle:
    """So many requests a second of each address, and what comes in WINDOW_S at once; counted in this process alone.

    Large mailbox providers ask from few addresses for many people, so this only keeps a single machine from being
    heard as often as it likes. A link cannot be guessed.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._buckets: OrderedDict[int, TokenBucket] = OrderedDict()

    def take(self, caller: IPv4Address | IPv6Address, now: float) -> int:
        """0: go on. Else the seconds after which to ask again."""
        known = int(caller) if caller.version == 4 else -(int(caller) >> _OWN_BITS) - 1
        bucket = self._buckets.get(known)
        if bucket is None:
            bucket = self._buckets[known] = TokenBucket(self._rate, max(1, int(self._rate * WINDOW_S)), now)
            if len(self._buckets) > _CALLERS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(known)
        return math.ceil(bucket.take(1, now))
