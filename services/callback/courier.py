"""Deliveries that are due are made: many at once, each finished as soon as its own request has ended."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

import structlog

from services.callback.deliveries import DeliveryState
from services.callback.signing import sign
from services.callback.verdict import Attempt, Verdict, judge
from shared.due import DueRow
from shared.metrics import CALLBACK_ATTEMPTS
from shared.retrying import retry_while_unavailable
from shared.tracing import SpanKind, begin_hop

log = structlog.get_logger(__name__)

_HOST_PAUSE = timedelta(milliseconds=250)


class Post(Protocol):
    """Makes one request; errors are part of the outcome."""

    async def __call__(self, url: str, body: bytes, headers: dict[str, str]) -> Attempt:
        """POST `body` as JSON."""


class Rows(Protocol):
    """Where the deliveries are kept. Both raise Unavailable."""

    async def settle(self, row: DueRow, attempt: Attempt, verdict: Verdict) -> bool:
        """Store an attempt and its verdict; False where the lease is no longer ours."""

    async def postpone(self, rows: Sequence[DueRow], delay: timedelta) -> None:
        """Give rows back untried."""


class Courier:
    """At most `limit` requests at once, and `host_limit` to one host.

    A request whose process dies is made again after its lease, with the same `webhook-id`.
    """

    def __init__(
        self,
        post: Post,
        rows: Rows,
        *,
        find_secret: Callable[[str], str],
        delays: Sequence[timedelta],
        limit: int,
        host_limit: int,
        patience_s: float,
    ) -> None:
        self._post = post
        self._rows = rows
        self._find_secret = find_secret
        self._delays = delays
        self._limit = limit
        self._host_limit = host_limit
        self._at_hosts: Counter[str] = Counter()
        self._patience_s = patience_s
        self._at_work: set[asyncio.Task[None]] = set()
        self.on_room: Callable[[], None] = lambda: None

    @property
    def room(self) -> int:
        """How many more requests may begin now."""
        return self._limit - len(self._at_work)

    async def take(self, rows: Sequence[DueRow]) -> None:
        """Begin a request for each row and return; what the due loop hands over. Raises Unavailable."""
        surplus: list[DueRow] = []
        for row in rows:
            host = _find_host(row.columns["url"])
            if self._at_hosts[host] >= self._host_limit:
                surplus.append(row)
            else:
                self._begin(row, host)
        if surplus:
            # Behind what other hosts wait for, as the oldest due time comes first.
            await self._rows.postpone(surplus, _HOST_PAUSE)

    def _begin(self, row: DueRow, host: str) -> None:
        self._at_hosts[host] += 1
        task = asyncio.create_task(self._deliver(row), name=f"delivery-{row.id}")
        self._at_work.add(task)
        task.add_done_callback(lambda done: self._on_end(done, host))

    async def start(self) -> None:
        """Nothing: the due loop brings the work."""

    async def stop(self) -> None:
        """Wait for the requests at work, as long as one may last; whatever is left comes again after its lease."""
        if self._at_work:
            _, left = await asyncio.wait(self._at_work, timeout=self._patience_s)
            for task in left:
                task.cancel()
            if left:
                log.warning("requests left to their lease", requests=len(left))
                await asyncio.wait(left)

    async def _deliver(self, row: DueRow) -> None:
        event_id: UUID = row.columns["event_id"]
        body: bytes = row.columns["body"]
        headers = sign(self._find_secret(row.columns["account"]), event_id, body, datetime.now(UTC))
        hop = begin_hop("POST callback", SpanKind.CLIENT, row.columns["traceparent"])
        headers["traceparent"] = hop.traceparent
        attempt = await self._post(row.columns["url"], body, headers)
        hop.end(error=attempt.error, attributes={"http.response.status_code": attempt.status or 0})
        verdict = judge(attempt, row.columns["attempts"], self._delays)
        held = await retry_while_unavailable(lambda: self._rows.settle(row, attempt, verdict), "callback settle")
        outcome = "retried" if verdict.state is DeliveryState.PENDING else verdict.state.value
        CALLBACK_ATTEMPTS.labels(outcome=outcome).inc()
        log.info(
            "callback attempted",
            delivery_id=str(row.id),
            email_id=str(row.columns["email_id"]),
            status=attempt.status,
            error=attempt.error,
            outcome=outcome,
            duration_ms=attempt.duration_ms,
        )
        if not held:
            log.warning("lease lost during a callback, it may be made twice", delivery_id=str(row.id))

    def _on_end(self, task: asyncio.Task[None], host: str) -> None:
        self._at_work.discard(task)
        self._at_hosts[host] -= 1
        if not self._at_hosts[host]:
            del self._at_hosts[host]
        if not task.cancelled() and task.exception():
            log.error("delivery failed, it comes again after its lease", exc_info=task.exception())
        self.on_room()


def _find_host(url: str) -> str:
    """Only for sharing the room: where it cannot be told, the URL stands for itself."""
    try:
        return urlsplit(url).netloc.lower() or url
    except ValueError:
        return url
