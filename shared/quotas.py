"""How much an API key may ask for: requests and mails a second, each from a bucket that holds a window's worth.

Counted in this process alone, without asking anybody: of several processes each gives its part (`api_processes`).
What a key has left stands on every answer, after draft-ietf-httpapi-ratelimit-headers-10.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from shared.access import ApiKey
from shared.settings import QuotaSettings
from shared.token_bucket import TokenBucket

REQUESTS, MAILS = "requests", "mails"

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Exhausted:
    """There is not enough left of `policy` (requests or mails), of which the key may have `rate` a second."""

    policy: str
    rate: float
    retry_after_s: int


class Quota:
    """What one key has left. A rate of 0 is no limit. `key` is the key as it was last looked up."""

    __slots__ = ("_buckets", "_clock", "_form", "_policies", "key", "rates")

    def __init__(self, key: ApiKey, rates: dict[str, float], settings: QuotaSettings, clock: Clock) -> None:
        self.key = key
        self.rates = rates
        self._clock = clock
        self._buckets = {
            name: _create_bucket(rate / settings.api_processes, settings.rate_window_s, clock())
            for name, rate in rates.items()
            if rate > 0
        }
        self._policies = b", ".join(_write_policy(name, bucket) for name, bucket in self._buckets.items())
        self._form = b", ".join(b'"%b";r=%%d;t=%%d' % name.encode() for name in self._buckets)

    def take(self, policy: str, count: int = 1) -> Exhausted | None:
        """Take all of `count`, or none where there is not enough. A mail counts once, whoever it is for."""
        bucket = self._buckets.get(policy)
        wait_s = bucket.take(count, self._clock()) if bucket else 0.0
        return Exhausted(policy, self.rates[policy], math.ceil(wait_s)) if wait_s else None

    def write_headers(self) -> list[tuple[bytes, bytes]]:
        """`RateLimit-Policy` and `RateLimit`; nothing where there is no limit.

        In the latter `r` is what there is, `t` the seconds until there is more.
        """
        if not self._buckets:
            return []
        now = self._clock()
        left: list[int] = []
        for bucket in self._buckets.values():
            left += bucket.look(now)
        return [(b"ratelimit-policy", self._policies), (b"ratelimit", self._form % tuple(left))]


class Quotas:
    """The quotas of all keys, bounded: beyond `size` the one unused for longest is forgotten, and begins anew."""

    def __init__(self, settings: QuotaSettings, *, size: int = 10_000, clock: Clock = time.monotonic) -> None:
        self._settings = settings
        self._size = size
        self._clock = clock
        self._quotas: OrderedDict[str, Quota] = OrderedDict()

    def find(self, key: ApiKey) -> Quota:
        """The key's quota. Where its rates have been changed, it begins anew."""
        quota = self._quotas.get(key.id)
        if quota is None or quota.key is not key:  # a key that is remembered is the same object for seconds
            quota = self._renew(key, quota)
        self._quotas.move_to_end(key.id)
        return quota

    def _renew(self, key: ApiKey, quota: Quota | None) -> Quota:
        rates = {
            REQUESTS: self._settings.request_rate if key.request_rate is None else key.request_rate,
            MAILS: self._settings.mail_rate if key.mail_rate is None else key.mail_rate,
        }
        if quota is not None and quota.rates == rates:
            quota.key = key
            return quota
        quota = self._quotas[key.id] = Quota(key, rates, self._settings, self._clock)
        if len(self._quotas) > self._size:
            self._quotas.popitem(last=False)
        return quota


def _create_bucket(rate: float, window_s: int, now: float) -> TokenBucket:
    """It holds what comes in a window, and one at least."""
    return TokenBucket(rate, max(1, int(rate * window_s)), now)


def _write_policy(name: str, bucket: TokenBucket) -> bytes:
    """`q` is what there can be at once, `w` the seconds in which as much comes."""
    return b'"%b";q=%d;w=%d' % (name.encode(), bucket.size, math.ceil(bucket.size / bucket.rate))
