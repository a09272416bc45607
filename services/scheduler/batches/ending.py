"""A worker's looks at batches: how fast mail leaves, and the last word on `schedule.tick` once every mail has its end.

What is found is written into the batch, where every API process reads it: however many watch, the counting is done
once. Uploads that were cut off are given up here, and their mails deleted.
"""

from collections.abc import Sequence
from datetime import datetime

import structlog

from services.scheduler.batches.look_store import BatchLookStore, Look
from services.scheduler.batches.progress import Batch, smooth_rate
from services.scheduler.failures import SOURCE
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.pacing.lanes import LaneKey, LaneKind
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
        self._results = results
        self._topic = topic

    async def look(self, rows: Sequence[DueRow]) -> None:
        """Handle what the due loop has leased. Raises Unavailable."""
        silent = [row.id for row in rows if row.columns["state"] == "receiving"]
        if silent:
            await self._store.give_up(silent)
            log.warning("uploads given up", batches=len(silent))
        for row in rows:
            if row.columns["state"] == "aborted":
                await self._discard(row)
        await self._look_at([row for row in rows if row.columns["state"] == "open"])

    async def _discard(self, row: DueRow) -> None:
        lane = LaneKey(row.columns["account"], LaneKind.BATCH, str(row.id))
        while await self._bulk.discard(lane, _DISCARDED):
            pass
        await self._store.mark_told([row.id])

    async def _look_at(self, rows: Sequence[DueRow]) -> None:
        if not rows:
            return
        found = await self._store.find(rows)
        looks = [judge(row, *found[row.id]) for row in rows if row.id in found]
        await self._store.note(looks)
        finished = [look.row for look in looks if look.is_finished]
        if finished:
            ended = [batch for batch, _ in (await self._store.find(finished)).values()]
            await self._results.publish_all([self._tell(batch) for batch in ended])
            await self._store.mark_told([batch.id for batch in ended])
            log.info("batches finished", batch_ids=[str(batch.id) for batch in ended])

    def _tell(self, batch: Batch) -> Message:
        assert batch.finished_at is not None, "it has been noted"
        event_id = derive_event_id(batch.id, EventType.BATCH_FINISHED, final=True)
        headers = build_headers(EventType.BATCH_FINISHED, event_id, SOURCE, batch.finished_at, continue_trace(None))
        return Message(self._topic, str(batch.id).encode(), describe_finished(batch).to_json(), headers)


def judge(row: DueRow, batch: Batch, elapsed_s: float) -> Look:
    """What a look says. A batch that had its end keeps the rate it had."""
    if batch.finished_at:
        return Look(row, batch.rate, batch.ended, is_finished=True)
    rate = smooth_rate(batch.rate, batch.ended - batch.sampled_ended, elapsed_s)
    return Look(row, rate, batch.ended, is_finished=batch.open == 0)


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
