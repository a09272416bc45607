"""A worker's looks at batches: those on their way, and uploads that were cut off, which are given up here."""

from collections.abc import Sequence
from datetime import datetime

import structlog

from services.scheduler.batches.look_store import BatchLookStore
from services.scheduler.batches.progress import Batch
from services.scheduler.failures import SOURCE
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.pacing.lanes import LaneKey, LaneKind
from services.scheduler.pacing.looking import Watch
from services.scheduler.pacing.states import ENDS, BulkState
from shared.due import DueRow
from shared.events import BatchCounts, BatchFinished, EventType, build_headers, derive_event_id
from shared.producing import Message
from shared.publisher import Publisher
from shared.tracing import continue_trace

log = structlog.get_logger(__name__)

_DISCARDED = 5000


class BatchWatcher:
    """Handles batches that are due for a look. Everything it does may happen twice."""

    def __init__(self, store: BatchLookStore, bulk: BulkStore, results: Publisher, topic: str) -> None:
        self._store = store
        self._bulk = bulk
        self._watch: Watch[Batch] = Watch(store.looks, store.find, lambda batch: tell_finished(batch, topic), results)

    async def look(self, rows: Sequence[DueRow]) -> None:
        """Handle what the due loop has leased. Raises Unavailable."""
        silent = [row.id for row in rows if row.columns["state"] == "receiving"]
        if silent:
            await self._store.give_up(silent)
            log.warning("uploads given up", batches=len(silent))
        for row in rows:
            if row.columns["state"] == "aborted":
                await self._discard(row)
        await self._watch.look([row for row in rows if row.columns["state"] == "open"])

    async def _discard(self, row: DueRow) -> None:
        lane = LaneKey(row.columns["account"], LaneKind.BATCH, str(row.id))
        while await self._bulk.discard(lane, _DISCARDED):
            pass
        await self._store.looks.mark_told([row])


def tell_finished(batch: Batch, topic: str) -> Message:
    """The last word on a batch."""
    assert batch.finished_at is not None, "it has been noted"
    event_id = derive_event_id(batch.id, EventType.BATCH_FINISHED, final=True)
    headers = build_headers(EventType.BATCH_FINISHED, event_id, SOURCE, batch.finished_at, continue_trace(None))
    return Message(topic, str(batch.id).encode(), describe_finished(batch).to_json(), headers)


def describe_finished(batch: Batch) -> BatchFinished:
    """The event."""
    ends = {state.value: batch.counts[state] for state in ENDS if state is not BulkState.SKIPPED}
    started: datetime = batch.started_at or batch.created_at
    assert batch.finished_at is not None
    return BatchFinished(
        batch_id=batch.id,
        name=batch.name,
        state="cancelled" if batch.cancelled_at else "finished",
        counts=BatchCounts(accepted=batch.accepted, invalid=batch.invalid, **ends),
        created_at=batch.created_at,
        started_at=started,
        finished_at=batch.finished_at,
        retry_of=batch.retry_of,
        account=batch.account,
        test=batch.test,
    )
