"""The routes by which batches and their items are read."""

from typing import Annotated

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from services.scheduler.batches.answers import (
    BatchItemPage,
    BatchItemView,
    BatchPage,
    BatchView,
    ItemState,
    show_batch,
    show_state,
    to_kept_state,
)
from services.scheduler.batches.control import BatchId, find_batch
from services.scheduler.batches.item_store import BatchItem, BatchItemStore
from services.scheduler.batches.store import BatchStore
from shared.access import ApiScope, KeyLookup
from shared.apidocs import ProblemDocument, describe_problems
from shared.authenticating import authenticate
from shared.cursors import read_cursor, read_time_cursor, write_cursor, write_time_cursor
from shared.problems import invalid_content

_AFTER = "/query/after"


class PageQuery(BaseModel):
    """Which page."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=200, description="of a page")
    after: str | None = Field(default=None, max_length=1000, description="`next` of the page before")


class ItemQuery(PageQuery):
    """Which items."""

    limit: int = Field(default=100, ge=1, le=1000, description="items of a page")
    state: ItemState | None = None


def setup_reading(app: FastAPI, keys: KeyLookup, store: BatchStore, items: BatchItemStore) -> None:
    """Add `GET /v1/batches`, `/v1/batches/{id}` and `/v1/batches/{id}/items`."""

    @app.get(
        "/v1/batches",
        tags=["Batches"],
        summary="Batches, newest first",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 422, 503),
    )
    async def list_batches(request: Request, query: Annotated[PageQuery, Query()]) -> BatchPage:
        """The account's batches. While `next` is there, there are more: ask again with it as `after`."""
        key = await authenticate(request, keys, ApiScope.EMAILS_READ)
        after = read_time_cursor(query.after, _AFTER) if query.after else None
        found = await store.list_page(key.account, after, query.limit + 1)
        shown = found[: query.limit]
        more = write_time_cursor(shown[-1].created_at, shown[-1].id) if len(found) > query.limit else None
        return BatchPage(data=list(map(show_batch, shown)), next=more)

    @app.get(
        "/v1/batches/{batch_id}",
        tags=["Batches"],
        summary="How a batch stands",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 404, 422, 503),
    )
    async def read_batch(request: Request, batch_id: BatchId) -> BatchView:
        """Counts, rate and estimated end. To be told of each change, listen to `links.events`."""
        key = await authenticate(request, keys, ApiScope.EMAILS_READ)
        return show_batch(await find_batch(store, batch_id, key))

    @app.get(
        "/v1/batches/{batch_id}/items",
        tags=["Batches"],
        summary="Items of a batch, each with its id or problem",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 404, 422, 503),
    )
    async def list_items(request: Request, batch_id: BatchId, query: Annotated[ItemQuery, Query()]) -> BatchItemPage:
        """Every item in the order of the upload, or those of one state. Of a batch that was refused, the bad ones."""
        key = await authenticate(request, keys, ApiScope.EMAILS_READ)
        batch = await find_batch(store, batch_id, key)
        after = _read_number(query.after) if query.after else 0
        kept = to_kept_state(query.state) if query.state else None
        found: list[BatchItem] = []
        if query.state is not ItemState.INVALID:
            found += await items.list_mails(batch.id, after, query.limit + 1, [kept] if kept else None)
        if query.state in (None, ItemState.INVALID):
            found += await items.list_problems(batch.id, after, query.limit + 1)
        found.sort(key=lambda item: item.number)
        shown = found[: query.limit]
        more = write_cursor(str(shown[-1].number)) if len(found) > query.limit else None
        return BatchItemPage(data=list(map(_show, shown)), next=more)


def _read_number(text: str) -> int:
    [number] = read_cursor(text, 1, _AFTER)
    if not (number.isascii() and number.isdigit() and len(number) < 8):
        detail = "not a cursor: pass `next` of the answer before as it is"
        raise invalid_content([{"detail": detail, "pointer": _AFTER}])
    return int(number)


def _show(item: BatchItem) -> BatchItemView:
    return BatchItemView(
        number=item.number,
        line=item.line,
        id=item.id,
        state=show_state(item.state) if item.state else ItemState.INVALID,
        problem=ProblemDocument.model_validate(item.problem) if item.problem else None,
    )
