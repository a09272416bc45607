"""What the read model and the last reconcile tell, as metrics of the worker."""

import asyncio
import contextlib
from datetime import timedelta

import structlog

from services.gateway.run_store import ReconciliationStore
from shared.metrics import OLDEST_WAITING_SECONDS, RECONCILE_AGE_SECONDS, RECONCILE_FAULTS, RECONCILED_MAILS
from shared.retrying import Unavailable

log = structlog.get_logger(__name__)


class Gauges:
    """Reads them anew every `period`. While PostgreSQL is away they stay as they were."""

    def __init__(self, store: ReconciliationStore, period: timedelta = timedelta(seconds=15)) -> None:
        self._store = store
        self._period_s = period.total_seconds()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin in the background."""
        for gauge in (RECONCILE_FAULTS, RECONCILE_AGE_SECONDS):
            gauge.set(float("nan"))
        self._task = asyncio.create_task(self._run(), name="gauges")

    async def stop(self) -> None:
        """End."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._refresh()
            except Unavailable:
                log.debug("gauges not read")
            except Exception:
                log.exception("gauges not read")  # of no use to anybody if mails are no longer projected for it
            await asyncio.sleep(self._period_s)

    async def _refresh(self) -> None:
        OLDEST_WAITING_SECONDS.set(await self._store.find_longest_wait())
        last = await self._store.find_last()
        if last:
            RECONCILE_AGE_SECONDS.set(last["age_s"])
            RECONCILE_FAULTS.set(last["faults"])
            RECONCILED_MAILS.clear()
            for state, mails in last["states"].items():
                RECONCILED_MAILS.labels(state=state).set(mails)
