"""Erasing contacts, with a proof of it."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Path, Query, Request

from services.scheduler.contacts.answers import ErasurePage, ErasureView, show_erasure
from services.scheduler.contacts.bodies import ERASURE, ErasureRequest
from services.scheduler.contacts.erasing_store import Erasure, ErasureStore
from services.scheduler.contacts.identity import identify_recipient
from services.scheduler.contacts.queries import AFTER_POINTER, PATH, SCOPE, TAG, ContactId, PageQuery
from shared.access import ApiKey, KeyLookup
from shared.apidocs import describe_body, describe_problems
from shared.authenticating import authenticate
from shared.bodies import read_model
from shared.cursors import read_time_cursor, write_time_cursor
from shared.problems import Problem

_PATH = f"{PATH}/erasures"
ErasureId = Annotated[UUID, Path(description="the erasure's id")]


def setup_erasing(app: FastAPI, keys: KeyLookup, store: ErasureStore) -> None:
    """Add `DELETE /v1/contacts/{id}` and `POST /v1/contacts/erasures`."""
    responses: Any = describe_problems(401, 403, 404, 422, 503)

    @app.delete(f"{PATH}/{{contact_id}}", tags=TAG, summary="Erase a contact", responses=responses)
    async def erase_contact(request: Request, contact_id: ContactId) -> ErasureView:
        """Erases it, and the recipient of the same address from every list; a mailing's mail to it that has not left
        is skipped. The answer is the proof: what was erased where and when, and what remains elsewhere until when. It
        is kept, without the address; asked again, the answer is the same.
        """
        return show_erasure(await _erase(store, await authenticate(request, keys, SCOPE), contact_id))

    @app.post(
        _PATH,
        tags=TAG,
        summary="Erase whoever has an address",
        responses=responses | describe_problems(400, 413),
        openapi_extra=describe_body({"application/json": (ErasureRequest, ERASURE)}),
    )
    async def erase_address(request: Request) -> ErasureView:
        """As `DELETE /v1/contacts/{contact_id}`, for an address: also for one that stands in lists only."""
        key = await authenticate(request, keys, SCOPE)
        wanted = await read_model(request, ErasureRequest)
        return show_erasure(await _erase(store, key, identify_recipient(key.account, wanted.address)))


def setup_erasure_reading(app: FastAPI, keys: KeyLookup, store: ErasureStore) -> None:
    """Add `GET /v1/contacts/erasures` and `/v1/contacts/erasures/{id}`."""

    @app.get(
        _PATH,
        tags=TAG,
        summary="Erasures, newest first",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 422, 503),
    )
    async def list_erasures(request: Request, query: Annotated[PageQuery, Query()]) -> ErasurePage:
        """The proofs of the account. None of them says who it was."""
        key = await authenticate(request, keys, SCOPE)
        after = read_time_cursor(query.after, AFTER_POINTER) if query.after else None
        found = await store.list_page(key.account, after, query.limit + 1)
        shown = found[: query.limit]
        more = write_time_cursor(shown[-1].erased_at, shown[-1].id) if len(found) > query.limit else None
        return ErasurePage(data=list(map(show_erasure, shown)), next=more)

    @app.get(
        f"{_PATH}/{{erasure_id}}",
        tags=TAG,
        summary="One erasure",
        responses=describe_problems(401, 403, 404, 422, 503),
    )
    async def read_erasure(request: Request, erasure_id: ErasureId) -> ErasureView:
        """Give the proof again."""
        key = await authenticate(request, keys, SCOPE)
        found = await store.find(key.account, erasure_id)
        if found is None:
            raise Problem(404, "not-found", "Your account has no such erasure.")
        return show_erasure(found)


async def _erase(store: ErasureStore, key: ApiKey, recipient: UUID) -> Erasure:
    """Raises Problem 404."""
    erased = await store.erase(key, recipient)
    if erased is None:
        raise Problem(404, "not-found", "Your account has nobody like that, in contacts or lists.")
    return erased
