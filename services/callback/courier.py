"""Deliveries that are due are made: many at once, each finished as soon as its own request has ended."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

import structlog

from services.callback.deliveries import DeliveryState
from services.callback.signing import sign
from services.callback.verdict import Attempt, Verdict, judge
from shared.due import DueRow
from shared.metrics import CALLBACK_ATTEMPTS
from shared.retrying import retry_while_unavailable
from shared.tracing import continue_trace

log = structlog.get_logger(__name__)


class Post(Protocol):
    """Makes one request; errors are part of the outcome."""

    async def __call__(self, url: str, body: bytes, headers: dict[str, str]) -> Attempt:
        """POST `body` as JSON."""


class Settle(Protocol):
    """Stores an attempt and its verdict; False where the lease is no longer ours. Raises Unavailable."""

    async def __call__(self, row: DueRow, attempt: Attempt, verdict: Verdict) -> bool:
        """Finish the row."""


class Courier:
    """At most `limit` requests at once. A request whose process dies is made again after its lease, with the same
    `webhook-id`."""

    def __init__(
        self,
        post: Post,
        settle: Settle,
        *,
        find_secret: Callable[[str], str],
        delays: Sequence[timedelta],
        limit: int,
        patience_s: float,
    ) -> None:
        self._post = post
        self._settle = settle
        self._find_secret = find_secret
        self._delays = delays
        self._limit = limit
        self._patience_s = patience_s
        self._at_work: set[asyncio.Task[None]] = set()
        self.on_room: Callable[[], None] = lambda: None

    @property
    def room(self) -> int:
        """How many more requests may begin now."""
        return self._limit - len(self._at_work)

    async def take(self, rows: Sequence[DueRow]) -> None:
        """Begin a request for each row and return; what the due loop hands over."""
        for row in rows:
            task = asyncio.create_task(self._deliver(row), name=f"delivery-{row.id}")
            self._at_work.add(task)
            task.add_done_callback(self._on_end)

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
        headers["traceparent"] = continue_trace(row.columns["traceparent"])
        attempt = await self._post(row.columns["url"], body, headers)
        verdict = judge(attempt, row.columns["attempts"], self._delays)
        held = await retry_while_unavailable(lambda: self._settle(row, attempt, verdict), "callback settle")
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

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._at_work.discard(task)
        if not task.cancelled() and task.exception():
            log.error("delivery failed, it comes again after its lease", exc_info=task.exception())
        self.on_room()
