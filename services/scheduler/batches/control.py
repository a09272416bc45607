"""What may be done to a batch: pause, resume, cancel, and trying the failed mails again."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Path, Request, Response

from services.scheduler.batches.answers import BatchView, show_batch
from services.scheduler.batches.item_store import RETRIED, BatchItemStore
from services.scheduler.batches.progress import Batch, BatchState
from services.scheduler.batches.retrying import renew
from services.scheduler.batches.store import BatchStore, NewBatch
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.pacing.lanes import LaneKey, LaneKind
from shared.access import ApiKey, ApiScope, KeyLookup
from shared.apidocs import describe_problems
from shared.authenticating import authenticate, take_mails
from shared.events import new_email_id
from shared.problems import Problem

BatchId = Annotated[UUID, Path(description="the batch's id")]
_PROBLEMS: dict[int | str, dict[str, Any]] = describe_problems(401, 403, 404, 409, 422, 503)
_PROBLEMS[409]["description"] = "The batch does not stand where this can be done; `state` says where it does"
_CHUNK = 500
_OPEN = (BatchState.RUNNING, BatchState.PAUSED)


async def find_batch(store: BatchStore, batch_id: UUID, key: ApiKey) -> Batch:
    """The account's batch. Raises Problem 404."""
    found = await store.find(batch_id, key.account)
    if found is None:
        raise Problem(404, "not-found", "Your account has no such batch.")
    return found


class Control:
    """Does it."""

    def __init__(self, store: BatchStore, items: BatchItemStore, bulk: BulkStore) -> None:
        self._store = store
        self._items = items
        self._bulk = bulk

    async def change(
        self, batch_id: UUID, key: ApiKey, change: Callable[[LaneKey], Awaitable[bool]], into: BatchState
    ) -> Batch:
        """Change the batch's lane, unless it is changed so already. Raises Problem 404, 409."""
        batch = await find_batch(self._store, batch_id, key)
        if batch.state is into:
            return batch
        if batch.state not in _OPEN or batch.finished_at:
            detail = f"The batch is {batch.state}: only one that is running or paused can be changed."
            raise Problem(409, "batch-state", detail, state=batch.state.value)
        await change(LaneKey(batch.account, LaneKind.BATCH, str(batch.id)))
        await self._store.hurry(batch.id)
        return await find_batch(self._store, batch_id, key)

    async def retry(self, request: Request, batch_id: UUID, key: ApiKey) -> Batch:
        """A batch of the mails that failed; the one there is, where it was asked for before. Raises Problem."""
        batch = await find_batch(self._store, batch_id, key)
        _refuse_retry(batch)
        new = NewBatch(new_email_id(), key, batch.name, retry_of=batch.id)
        earlier = await self._store.begin(new)
        if earlier:
            return await find_batch(self._store, earlier.id, key)
        count = 0
        try:
            count = await self._copy(batch, new)
            if not count:
                raise _nothing_to_retry()
            take_mails(request, count)
            await self._store.start(new.id, count, 0, None)
        except Exception:
            await self._store.abort(new.id, "It could not be prepared.", count, 0)
            raise
        return await find_batch(self._store, new.id, key)

    async def _copy(self, batch: Batch, new: NewBatch) -> int:
        lane = LaneKey(batch.account, LaneKind.BATCH, str(new.id))
        lanes = await self._bulk.open_lanes([lane], paused=True)
        await self._store.note_lane(new.id, lanes[lane])
        now, count, after = datetime.now(UTC), 0, 0
        while failed := await self._items.list_failed(batch.id, after, _CHUNK):
            rows = [renew(mail, count + n, batch.id, new.id, lane, now) for n, mail in enumerate(failed, 1)]
            await self._store.note_progress(new.id, [], [])
            await self._bulk.add(rows)
            count, after = count + len(rows), failed[-1].number
        return count

    @property
    def pause(self) -> Callable[[LaneKey], Awaitable[bool]]:
        """Nothing more leaves."""
        return self._bulk.pause

    @property
    def resume(self) -> Callable[[LaneKey], Awaitable[bool]]:
        """It goes on."""
        return self._bulk.resume

    @property
    def cancel(self) -> Callable[[LaneKey], Awaitable[bool]]:
        """What is pending will not be sent."""
        return self._bulk.cancel


def _refuse_retry(batch: Batch) -> None:
    """Raises Problem 409 where there is nothing to try again, or not yet: before anything is begun for it."""
    if batch.state is BatchState.ABORTED:
        detail = "The batch is aborted: nothing of it was sent. Upload it again."
        raise Problem(409, "batch-state", detail, state=batch.state.value)
    if batch.finished_at is None:
        detail = f"The batch is {batch.state}: some of its mails have no end yet. Wait for it."
        raise Problem(409, "not-final", detail, state=batch.state.value)
    if not any(batch.counts[state] for state in RETRIED):
        raise _nothing_to_retry()


def _nothing_to_retry() -> Problem:
    return Problem(409, "nothing-to-retry", "None of its mails failed, or what they said is gone.")


def setup_control(app: FastAPI, keys: KeyLookup, control: Control) -> None:
    """Add `POST /v1/batches/{id}/pause`, `/resume`, `/cancel` and `/retry`."""

    @app.post(
        "/v1/batches/{batch_id}/pause",
        tags=["Batches"],
        summary="Pause",
        responses=_PROBLEMS,
        response_model_exclude_none=True,
    )
    async def pause_batch(request: Request, batch_id: BatchId) -> BatchView:
        """Nothing more of it leaves, at once; what is with the senders is sent. Paused twice is paused."""
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND)
        return show_batch(await control.change(batch_id, key, control.pause, BatchState.PAUSED))

    @app.post(
        "/v1/batches/{batch_id}/resume",
        tags=["Batches"],
        summary="Resume",
        responses=_PROBLEMS,
        response_model_exclude_none=True,
    )
    async def resume_batch(request: Request, batch_id: BatchId) -> BatchView:
        """It goes on where it was."""
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND)
        return show_batch(await control.change(batch_id, key, control.resume, BatchState.RUNNING))

    @app.post(
        "/v1/batches/{batch_id}/cancel",
        tags=["Batches"],
        summary="Cancel",
        responses=_PROBLEMS,
        response_model_exclude_none=True,
    )
    async def cancel_batch(request: Request, batch_id: BatchId) -> BatchView:
        """What is pending is not sent and ends as cancelled, what is with the senders goes on. There is no way back."""
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND)
        return show_batch(await control.change(batch_id, key, control.cancel, BatchState.CANCELLED))

    @app.post(
        "/v1/batches/{batch_id}/retry",
        tags=["Batches"],
        summary="Try the failed mails again",
        status_code=202,
        responses=_PROBLEMS,
        response_model_exclude_none=True,
    )
    async def retry_batch(request: Request, response: Response, batch_id: BatchId) -> BatchView:
        """The mails that failed or expired, as a batch of their own: new ids, each with `retry_of`.

        Once the batch is finished or cancelled, and once in its life: asked for again, the answer is the same batch.
        What fails again is for a retry of that one. Mails that were sent to some of their recipients are left out;
        `POST /v1/emails/{id}/retry` tries the others again.
        """
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND)
        retry = await control.retry(request, batch_id, key)
        response.headers["location"] = f"/v1/batches/{retry.id}"
        return show_batch(retry)
