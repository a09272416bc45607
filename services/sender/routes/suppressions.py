"""/v1/suppressions: addresses that are not written to."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from services.sender.routes.operators import AFTER_POINTER, After, Authorize, Limit, find_end
from services.sender.store import Suppression, SuppressionStore
from services.sender.suppressing import normalise_address
from services.sender.suppression_list import (
    COLUMNS,
    REASON_LIMIT,
    BadRow,
    SuppressionReader,
    UnreadableList,
    split_lines,
    write_rows,
)
from shared.apidocs import describe_problems
from shared.cursors import read_cursor, write_cursor
from shared.events.requested import Account, HeaderText
from shared.events.wire import Instant
from shared.problems import Problem, invalid_content

IMPORT_PATH = "/v1/suppressions/import"
IMPORT_LIMIT = 64 * 1024 * 1024  # bytes: about a million rows
_BATCH = 1000
_ERRORS_SHOWN = 100
_CSV = "text/csv"
Address = Annotated[str, StringConstraints(max_length=400), AfterValidator(normalise_address)]


class SuppressionRequest(BaseModel):
    """An address that is not to be written to."""

    model_config = ConfigDict(extra="forbid")

    address: Address = Field(description="case does not count; a domain beyond ASCII is kept in its ASCII form")
    account: Account | None = Field(default=None, description="whose mail; absent: the key's account")
    reason: Annotated[HeaderText, StringConstraints(max_length=REASON_LIMIT)] = "manual"
    until: Instant | None = Field(default=None, description="absent: for good")


class SuppressionEntry(BaseModel):
    """An address that an account does not write to."""

    account: str
    address: str
    reason: str
    until: datetime | None = None
    created_at: datetime


class SuppressionPage(BaseModel):
    """Suppressions by account and address; `next` where there may be more."""

    data: list[SuppressionEntry]
    next: str | None = None


class RefusedRow(BaseModel):
    """A row that was left out."""

    line: int
    detail: str


class ImportReport(BaseModel):
    """What came of a file."""

    imported: int
    refused: int
    errors: list[RefusedRow] = Field(description="the first 100")


def setup_suppressions(app: FastAPI, authorize: Authorize, store: SuppressionStore) -> None:
    """Add the routes."""
    _setup_entries(app, authorize, store)
    _setup_files(app, authorize, store)


def _setup_entries(app: FastAPI, authorize: Authorize, store: SuppressionStore) -> None:
    @app.get(
        "/v1/suppressions",
        tags=["Suppressions"],
        summary="Addresses that are not written to",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 422, 503),
    )
    async def list_suppressions(
        request: Request,
        account: Account | None = None,
        address: Address | None = None,
        after: After = None,
        limit: Limit = 100,
    ) -> SuppressionPage:
        """List those in force, of one account or of all."""
        await authorize(request)
        position = read_cursor(after, 2, AFTER_POINTER) if after else None
        found = await store.list_some(account, address, (position[0], position[1]) if position else None, limit)
        data = [SuppressionEntry.model_validate(each, from_attributes=True) for each in found]
        end = find_end(found, limit)
        return SuppressionPage(data=data, next=write_cursor(end.account, end.address) if end else None)

    @app.post(
        "/v1/suppressions",
        tags=["Suppressions"],
        summary="Write no more to an address",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 422, 503),
    )
    async def add_suppression(wanted: SuppressionRequest, request: Request) -> SuppressionEntry:
        """Add an address, or replace reason and time of one that is there. Mail claimed from now on minds it."""
        key = await authorize(request)
        if wanted.until and wanted.until <= datetime.now(UTC):
            raise invalid_content([{"detail": "is over", "pointer": "/until"}])
        entry = Suppression(wanted.account or key.account, wanted.address, wanted.reason, wanted.until)
        (kept,) = await store.add([entry])
        return SuppressionEntry.model_validate(kept, from_attributes=True)

    @app.delete(
        "/v1/suppressions",
        tags=["Suppressions"],
        summary="Write to an address again",
        status_code=204,
        responses=describe_problems(401, 403, 404, 422, 503),
    )
    async def remove_suppression(request: Request, address: Address, account: Account | None = None) -> Response:
        """Remove one, of the key's account where none is named. 404: there is none."""
        key = await authorize(request)
        if not await store.remove(account or key.account, address):
            raise Problem(404, "not-found", "This address is not suppressed for this account.")
        return Response(status_code=204)


def _setup_files(app: FastAPI, authorize: Authorize, store: SuppressionStore) -> None:
    @app.post(
        IMPORT_PATH,
        tags=["Suppressions"],
        summary="Import a CSV file",
        responses=describe_problems(401, 403, 413, 415, 422, 503),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    _CSV: {
                        "schema": {"type": "string"},
                        "example": "address,reason,until\nann@example.org,asked us,2027-01-31\n",
                    }
                },
            }
        },
    )
    async def import_suppressions(
        request: Request,
        account: Annotated[Account | None, Query(description="of rows that name none; absent: the key's")] = None,
    ) -> ImportReport:
        """Add every row of a CSV file in UTF-8, up to 64 MiB, replacing what is there.

        The first line names the columns: `address`, and as far as wanted `account`, `reason`, `until` (a time, or a
        date, of which the end is meant). A bad row is left out and told with its line; the others are imported. An
        import that broke off may be repeated.
        """
        key = await authorize(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _CSV:
            raise Problem(415, "unsupported-media-type", "Send the file with Content-Type: text/csv.")
        return await _import(request, store, SuppressionReader(account or key.account, datetime.now(UTC)))

    @app.get(
        "/v1/suppressions/export",
        tags=["Suppressions"],
        summary="Export as CSV",
        response_class=StreamingResponse,
        responses={200: {"content": {_CSV: {}}}, **describe_problems(401, 403, 422, 503)},
    )
    async def export_suppressions(request: Request, account: Account | None = None) -> StreamingResponse:
        """Give all in force, of one account or of all, in the form that can be imported."""
        await authorize(request)
        headers = {"Content-Disposition": 'attachment; filename="suppressions.csv"'}
        return StreamingResponse(_export(store, account), media_type=_CSV, headers=headers)


async def _import(request: Request, store: SuppressionStore, reader: SuppressionReader) -> ImportReport:
    report = ImportReport(imported=0, refused=0, errors=[])
    batch: list[Suppression] = []
    try:
        async for line in split_lines(request.stream()):
            row = reader.read(line)
            if isinstance(row, BadRow):
                report.refused += 1
                if len(report.errors) < _ERRORS_SHOWN:
                    report.errors.append(RefusedRow(line=row.line, detail=row.detail))
            elif row:
                batch.append(row)
            if len(batch) == _BATCH:
                report.imported += len(await store.add(batch))
                batch.clear()
    except UnreadableList as exc:
        raise Problem(422, "unreadable-list", str(exc), imported=report.imported) from None
    if batch:
        report.imported += len(await store.add(batch))
    return report


async def _export(store: SuppressionStore, account: str | None) -> AsyncIterator[str]:
    yield ",".join(COLUMNS) + "\r\n"
    rows: list[Suppression] = []
    async for each in store.read_all(account):
        rows.append(each)
        if len(rows) == _BATCH:
            yield write_rows(rows)
            rows.clear()
    yield write_rows(rows)
