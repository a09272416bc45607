"""`GET /v1/batches/{id}/events`: a batch as it runs, over SSE or a WebSocket."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from services.scheduler.batches.answers import show_batch
from services.scheduler.batches.examples import EVENTS_EXAMPLE
from services.scheduler.batches.progress import Batch, BatchState
from services.scheduler.batches.store import BatchStore
from shared.access import ApiKey, ApiScope
from shared.live import Message, Sight, Snapshot

_PROGRESS, _FINISHED = "batch.progress", "batch.finished"
_DESCRIPTION = """\
Server-Sent Events: `batch.progress`, first at once and then about every second while something changes,
and `batch.finished` at the end, after which the stream ends. `data` is the batch as `GET /v1/batches/{id}`
has it. Events are how it stands, no history: who comes back is told how it stands then, unless the id he was
told last says that he knows. The same address takes a WebSocket; a message is then `{id, type, data}`. A page
uses a ticket (`POST /v1/live/tickets`)."""


class BatchLook:
    """What viewers are shown, looked up for all of them at once."""

    def __init__(self, store: BatchStore) -> None:
        self._store = store

    async def look(self, ids: Sequence[UUID]) -> Mapping[UUID, Snapshot]:
        """How batches stand. Raises Unavailable."""
        return {batch.id: make_snapshot(batch) for batch in await self._store.find_all(ids)}

    async def find(self, batch_id: UUID, key: ApiKey) -> Snapshot | None:
        """How a batch of the key's account stands. Raises Unavailable."""
        batch = await self._store.find(batch_id, key.account)
        return make_snapshot(batch) if batch else None


def make_snapshot(batch: Batch) -> Snapshot:
    """What is told of a batch; the last of one that is over."""
    is_last = batch.finished_at is not None or batch.state is BatchState.ABORTED
    payload = show_batch(batch).model_dump_json(exclude_none=True).encode()
    return Snapshot(Message(batch.revision, _FINISHED if batch.finished_at else _PROGRESS, payload), is_last)


def make_sight(look: BatchLook) -> Sight:
    """A batch, to be watched."""
    return Sight(
        noun="batch",
        path="/v1/batches/{batch_id}/events",
        tag="Batches",
        summary="A batch as it runs",
        description=_DESCRIPTION,
        example=EVENTS_EXAMPLE,
        scope=ApiScope.EMAILS_READ,
        find=look.find,
        look=look.look,
    )
