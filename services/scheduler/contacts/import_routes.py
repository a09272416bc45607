"""`POST /v1/contacts/import`, and what became of imports."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from services.scheduler.batches.body import HashedBody
from services.scheduler.contacts.answers import ContactsImported, ImportPage, ImportView, show_import, show_problem
from services.scheduler.contacts.contact_import import ContactImport
from services.scheduler.contacts.examples import IMPORT_BODY, PROBLEMS_EXAMPLE
from services.scheduler.contacts.import_store import ImportProblem, ImportStore
from services.scheduler.contacts.queries import AFTER_POINTER, PATH, SCOPE, TAG, PageQuery
from services.scheduler.contacts.receiving import ContactImporter
from services.scheduler.importing.http import choose_upload_reader, download_csv
from shared.access import ApiKey, KeyLookup
from shared.apidocs import describe_problems
from shared.authenticating import authenticate
from shared.cursors import read_time_cursor, write_time_cursor
from shared.events.requested import Label
from shared.problems import Problem
from shared.uploads import UploadSlots, refuse_encoded

IMPORT_PATH = f"{PATH}/import"
ImportId = Annotated[UUID, Path(description="the import's id")]
_PORTION = 1000
_CSV: Any = {200: {"description": "All of them", "content": {"text/csv": {"example": PROBLEMS_EXAMPLE}}}}


class ImportQuery(BaseModel):
    """What may be said of an import beside its rows."""

    model_config = ConfigDict(extra="forbid")

    name: Label | None = Field(default=None, description="to find it again by")


async def find_import(store: ImportStore, import_id: UUID, key: ApiKey) -> ContactImport:
    """The account's import. Raises Problem 404."""
    found = await store.find(key.account, import_id)
    if found is None:
        raise Problem(404, "not-found", "Your account has no such import.")
    return found


def setup_importing(app: FastAPI, keys: KeyLookup, importer: ContactImporter, slots: UploadSlots) -> None:
    """Add `POST /v1/contacts/import`."""

    @app.post(
        IMPORT_PATH,
        tags=TAG,
        summary="Import contacts from a file",
        response_model_exclude_none=True,
        responses=describe_problems(400, 401, 403, 408, 413, 415, 422, 503),
        openapi_extra=IMPORT_BODY,
    )
    async def import_contacts(request: Request, query: Annotated[ImportQuery, Query()]) -> ContactsImported:
        """Takes CSV whose first row names the columns, or NDJSON, of any length. `address` is needed; `name`,
        `timezone` and `tags` (in CSV separated by `;`) are known; every other column is an attribute.

        Each row makes a contact or changes the one with its address, as `POST /v1/contacts` does: what the file has no
        column for stays as it is, `tags` are replaced as a whole. Rows that are no contacts are left out and told.
        Rows are stored as they come, so what has come of an upload that is cut off stays: send the same file again, as
        often as you like, and the contacts are the same. `GET /v1/contacts/imports` shows how far it is.
        """
        key = await authenticate(request, keys, SCOPE)
        refuse_encoded(request)
        reader = choose_upload_reader(request.headers.get("content-type", ""), "attributes")
        with slots.hold():
            body = HashedBody(request, key, "").read()
            found, problems = await importer.receive(key, query.name, _read_size(request), body, reader)
        return ContactsImported(**show_import(found).model_dump(), problems=list(map(show_problem, problems)))


def setup_import_reading(app: FastAPI, keys: KeyLookup, store: ImportStore) -> None:
    """Add `GET /v1/contacts/imports`, `/v1/contacts/imports/{id}` and its `problems`."""

    @app.get(
        f"{PATH}/imports",
        tags=TAG,
        summary="Imports, newest first",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 422, 503),
    )
    async def list_imports(request: Request, query: Annotated[PageQuery, Query()]) -> ImportPage:
        """The account's imports of the last 30 days, those that run among them."""
        key = await authenticate(request, keys, SCOPE)
        after = read_time_cursor(query.after, AFTER_POINTER) if query.after else None
        found = await store.list_page(key.account, after, query.limit + 1)
        shown = found[: query.limit]
        more = write_time_cursor(shown[-1].created_at, shown[-1].id) if len(found) > query.limit else None
        return ImportPage(data=list(map(show_import, shown)), next=more)

    @app.get(
        f"{PATH}/imports/{{import_id}}",
        tags=TAG,
        summary="How far an import is",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 404, 422, 503),
    )
    async def read_import(request: Request, import_id: ImportId) -> ImportView:
        """What became of its rows so far."""
        return show_import(await find_import(store, import_id, await authenticate(request, keys, SCOPE)))

    @app.get(
        f"{PATH}/imports/{{import_id}}/problems",
        tags=TAG,
        summary="Rows of an import that were left out",
        response_class=StreamingResponse,
        responses=_CSV | describe_problems(401, 403, 404, 422, 503),
    )
    async def download_problems(request: Request, import_id: ImportId) -> StreamingResponse:
        """All of them as CSV: which row, on which line of the file, in which column, and why."""
        found = await find_import(store, import_id, await authenticate(request, keys, SCOPE))
        portions = _list_problems(store, found.id)
        return download_csv(f"problems-{found.id}.csv", ImportProblem._fields[1:], portions)


async def _list_problems(store: ImportStore, import_id: UUID) -> AsyncIterator[Sequence[Sequence[Any]]]:
    after = 0
    while portion := await store.list_problems(import_id, after, _PORTION):
        yield [problem[1:] for problem in portion]
        after = portion[-1].number


def _read_size(request: Request) -> int | None:
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isdigit() else None
