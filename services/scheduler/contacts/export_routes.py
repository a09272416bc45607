"""`GET /v1/contacts/export`."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from services.scheduler.contacts.contact import Contact, ContactFilter
from services.scheduler.contacts.examples import EXPORT_EXAMPLES
from services.scheduler.contacts.exporting import write_csv, write_csv_head, write_lines
from services.scheduler.contacts.queries import PATH, SCOPE, TAG, FilterQuery
from services.scheduler.contacts.store import ContactStore
from services.scheduler.importing.columns import KNOWN, name_column
from shared.access import KeyLookup
from shared.apidocs import describe_problems
from shared.authenticating import authenticate
from shared.problems import invalid_content

_PORTION = 500
_MOST_COLUMNS = 190  # with those of every contact no more than an import takes


class ExportQuery(FilterQuery):
    """Which contacts, and how they are to be written."""

    format: Literal["csv", "ndjson"] = Field(default="csv", description="NDJSON keeps what is no text as it is")


def setup_exporting(app: FastAPI, keys: KeyLookup, store: ContactStore) -> None:
    """Add the route."""

    @app.get(
        f"{PATH}/export",
        tags=TAG,
        summary="Export contacts",
        response_class=StreamingResponse,
        responses=EXPORT_EXAMPLES | describe_problems(401, 403, 422, 503),
    )
    async def export_contacts(request: Request, query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
        """All contacts, or those with these tags and attributes, in the form that can be imported. A file that ends
        without its last part was cut off: the connection is then closed without an end.
        """
        key = await authenticate(request, keys, SCOPE)
        wanted = query.to_filter()
        if query.format == "ndjson":
            lines, media = _export_lines(store, key.account, wanted), "application/x-ndjson"
        else:
            names = await store.list_attribute_names(key.account, wanted, _MOST_COLUMNS + 1)
            if detail := _find_obstacle(names):
                raise invalid_content([{"detail": f"{detail}; take ndjson", "pointer": "/query/format"}])
            lines, media = _export_csv(store, key.account, wanted, names), "text/csv"
        headers = {"content-disposition": f'attachment; filename="contacts.{query.format}"'}
        return StreamingResponse(lines, media_type=media, headers=headers)


def _find_obstacle(names: list[str]) -> str | None:
    """Why contacts with these attributes cannot be written so that an import reads them as they are."""
    if len(names) > _MOST_COLUMNS:
        return f"there are more than {_MOST_COLUMNS} attributes: too many columns"
    taken = [name for name in names if name_column(name) in KNOWN or name_column(name) != name]
    return f"a column `{taken[0]}` would not be read as the attribute it is" if taken else None


async def _export_csv(
    store: ContactStore, account: str, wanted: ContactFilter, names: list[str]
) -> AsyncIterator[str | bytes]:
    yield write_csv_head(names)
    async for portion in _read_all(store, account, wanted):
        yield write_csv(portion, names)


async def _export_lines(store: ContactStore, account: str, wanted: ContactFilter) -> AsyncIterator[str | bytes]:
    async for portion in _read_all(store, account, wanted):
        yield write_lines(portion)


async def _read_all(store: ContactStore, account: str, wanted: ContactFilter) -> AsyncIterator[list[Contact]]:
    after = None
    while portion := list(await store.list_page(account, wanted, after, _PORTION)):
        yield portion
        after = portion[-1].id
