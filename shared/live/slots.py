"""How many streams may be open: in this process, and for one account in it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from shared.metrics import LIVE_STREAMS


class TooManyStreams(Exception):
    """No further stream now. `own`: the account has its share, otherwise the process has."""

    def __init__(self, limit: int, *, own: bool) -> None:
        super().__init__(f"at most {limit} streams")
        self.limit = limit
        self.own = own


class Slots:
    """Counts streams."""

    def __init__(self, *, per_process: int, per_account: int) -> None:
        self._per_process = per_process
        self._per_account = per_account
        self._open: Counter[str] = Counter()

    @contextmanager
    def hold(self, account: str, kind: str) -> Iterator[None]:
        """One stream of an account, by `kind` in the metric. Raises TooManyStreams."""
        if self._open[account] >= self._per_account:
            raise TooManyStreams(self._per_account, own=True)
        if self._open.total() >= self._per_process:
            raise TooManyStreams(self._per_process, own=False)
        self._open[account] += 1
        LIVE_STREAMS.labels(kind=kind).inc()
        try:
            yield
        finally:
            LIVE_STREAMS.labels(kind=kind).dec()
            self._open[account] -= 1
            if not self._open[account]:
                del self._open[account]
