"""The routes by which lists of recipients, and what was wrong with their rows, are read."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from services.scheduler.importing.http import download_csv
from services.scheduler.lists.answers import (
    ListProblemPage,
    RecipientListPage,
    RecipientListView,
    show_list,
    show_problem,
)
from services.scheduler.lists.recipient_list import RowProblem
from services.scheduler.lists.routes import PATH, SCOPE, TAG, ListId, find_list
from services.scheduler.lists.store import ListStore
from shared.access import KeyLookup
from shared.apidocs import describe_problems
from shared.authenticating import authenticate
from shared.cursors import read_cursor, read_time_cursor, write_cursor, write_time_cursor
from shared.problems import invalid_content

_AFTER = "/query/after"
_PORTION = 1000
_CSV: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}, "example": "number,line,kind,field,detail\n"}}}
}


class ListQuery(BaseModel):
    """Which page."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=200, description="of a page")
    after: str | None = Field(default=None, max_length=1000, description="`next` of the page before")


class ListProblemQuery(ListQuery):
    """Which page of problems, or all of them as CSV."""

    limit: int = Field(default=100, ge=1, le=1000, description="of a page")
    format: Literal["json", "csv"] = Field(default="json", description="`csv`: all of them, to download")


def setup_list_reading(app: FastAPI, keys: KeyLookup, store: ListStore) -> None:
    """Add `GET /v1/lists`, `/v1/lists/{id}` and `/v1/lists/{id}/problems`."""

    @app.get(
        PATH,
        tags=TAG,
        summary="Lists, newest first",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 422, 503),
    )
    async def list_lists(request: Request, query: Annotated[ListQuery, Query()]) -> RecipientListPage:
        """The account's lists. While `next` is there, there are more: ask again with it as `after`."""
        key = await authenticate(request, keys, SCOPE)
        after = read_time_cursor(query.after, _AFTER) if query.after else None
        found = await store.list_page(key.account, after, query.limit + 1)
        shown = found[: query.limit]
        more = write_time_cursor(shown[-1].created_at, shown[-1].id) if len(found) > query.limit else None
        return RecipientListPage(data=list(map(show_list, shown)), next=more)

    @app.get(
        f"{PATH}/{{list_id}}",
        tags=TAG,
        summary="One list",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 404, 422, 503),
    )
    async def read_list(request: Request, list_id: ListId) -> RecipientListView:
        """How many are in it, and what became of the other rows."""
        return show_list(await find_list(store, list_id, await authenticate(request, keys, SCOPE)))

    @app.get(
        f"{PATH}/{{list_id}}/problems",
        tags=TAG,
        summary="Rows of a list that made no entry",
        response_model=ListProblemPage,
        responses=_CSV | describe_problems(401, 403, 404, 422, 503),
    )
    async def list_problems(request: Request, list_id: ListId, query: Annotated[ListProblemQuery, Query()]) -> Any:
        """Every row that is no recipient or repeats one, page by page, or all at once with `format=csv`."""
        found = await find_list(store, list_id, await authenticate(request, keys, SCOPE))
        if query.format == "csv":
            return download_csv(f"problems-{found.id}.csv", RowProblem._fields, _list_all(store, found.id))
        after = _read_number(query.after) if query.after else 0
        problems = await store.list_problems(found.id, after, query.limit + 1)
        shown = problems[: query.limit]
        more = write_cursor(str(shown[-1].number)) if len(problems) > query.limit else None
        return ListProblemPage(data=list(map(show_problem, shown)), next=more)


def _read_number(text: str) -> int:
    [number] = read_cursor(text, 1, _AFTER)
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        detail = "not a cursor: pass `next` of the answer before as it is"
        raise invalid_content([{"detail": detail, "pointer": _AFTER}])
    return int(number)


async def _list_all(store: ListStore, list_id: UUID) -> AsyncIterator[Sequence[RowProblem]]:
    after = 0
    while portion := await store.list_problems(list_id, after, _PORTION):
        yield portion
        after = portion[-1].number
