"""`/v1/lists`: uploading lists of recipients, and deleting them."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.scheduler.batches.body import HashedBody
from services.scheduler.importing.http import choose_upload_reader
from services.scheduler.lists.answers import ListUploaded, show_uploaded
from services.scheduler.lists.examples import CSV_EXAMPLES, LINE_EXAMPLES
from services.scheduler.lists.receiving import ListReceiver
from services.scheduler.lists.recipient_list import ListState, RecipientList
from services.scheduler.lists.store import ListStore
from shared.access import ApiKey, ApiScope, KeyLookup
from shared.apidocs import describe_problems
from shared.authenticating import authenticate
from shared.events.requested import Label
from shared.problems import Problem
from shared.uploads import UploadSlots, refuse_encoded

PATH = "/v1/lists"
SCOPE = ApiScope.MAILINGS_ADMIN
TAG: Any = ["Lists"]
ListId = Annotated[UUID, Path(description="the list's id")]
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {
                "schema": {"type": "string", "description": "UTF-8; the first row names the columns"},
                "examples": CSV_EXAMPLES,
            },
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "a recipient a line, as JSON"},
                "examples": LINE_EXAMPLES,
            },
        },
    }
}


class ListUploadQuery(BaseModel):
    """What may be said of a list beside its rows."""

    model_config = ConfigDict(extra="forbid")

    name: Label | None = Field(default=None, description="to find it again by")


async def find_list(store: ListStore, list_id: UUID, key: ApiKey) -> RecipientList:
    """The account's list. Raises Problem 404."""
    found = await store.find(key.account, list_id)
    if found is None:
        raise Problem(404, "not-found", "Your account has no such list.")
    return found


def setup_list_routes(
    app: FastAPI, keys: KeyLookup, store: ListStore, receiver: ListReceiver, slots: UploadSlots
) -> None:
    """Add `POST /v1/lists` and `DELETE /v1/lists/{id}`."""

    @app.post(
        PATH,
        tags=TAG,
        summary="Upload recipients for a mailing",
        status_code=201,
        response_model_exclude_none=True,
        responses=describe_problems(400, 401, 403, 408, 413, 415, 422, 503),
        openapi_extra=_BODY,
    )
    async def upload_list(
        request: Request, response: Response, query: Annotated[ListUploadQuery, Query()]
    ) -> ListUploaded:
        """Takes up to two million recipients: `address`, and where they are known `name` and `timezone`; every other
        column (in NDJSON: `variables`) is for the templates.

        201: the list is whole, and never changes. A mailing names it as `audience: {"list": id}`. Rows that are no
        recipient are left out and told, and so is every further row of a recipient there is already: he gets one mail.
        An upload that is cut off leaves no list, and so does one without any recipient (422).
        """
        key = await authenticate(request, keys, SCOPE)
        refuse_encoded(request)
        reader = choose_upload_reader(request.headers.get("content-type", ""), "variables")
        with slots.hold():
            body = HashedBody(request, key, "")
            found, problems = await receiver.receive(key, query.name, body.read(), reader)
        response.headers["location"] = f"{PATH}/{found.id}"
        return show_uploaded(found, problems)

    @app.delete(
        f"{PATH}/{{list_id}}",
        tags=TAG,
        summary="Delete a list",
        status_code=204,
        responses=describe_problems(401, 403, 404, 409, 422, 503)
        | {409: describe_problems(409)[409] | {"description": "A mailing that is not over yet needs it"}},
    )
    async def delete_list(request: Request, list_id: ListId) -> Response:
        """Deletes a list and all that is in it. Mailings that have taken their recipients in do not need it."""
        key = await authenticate(request, keys, SCOPE)
        found = await find_list(store, list_id, key)
        if found.state is ListState.RECEIVING:
            raise Problem(409, "list-in-use", "The list is being uploaded.")
        if not await store.delete(key.account, list_id):
            raise Problem(409, "list-in-use", "A mailing that has not taken its recipients in yet goes to this list.")
        return Response(status_code=204)
