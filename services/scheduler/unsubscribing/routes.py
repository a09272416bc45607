"""`/v1/unsubscriptions`: who gets no mailing any more, for whoever keeps the account."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.scheduler.contacts.identity import identify_recipient
from services.scheduler.unsubscribing.store import Source, Unsubscription, UnsubscriptionStore
from shared.access import ApiKey, ApiScope, KeyLookup
from shared.apidocs import describe_body, describe_problems
from shared.authenticating import authenticate
from shared.bodies import read_model
from shared.cursors import mark_list, read_time_cursor, write_time_cursor
from shared.events.wire import Address
from shared.metrics import UNSUBSCRIPTIONS
from shared.problems import Problem

PATH = "/v1/unsubscriptions"
ADDRESSES_LIMIT = 1000
_SCOPE = ApiScope.MAILINGS_ADMIN
_TAG: Any = ["Unsubscribing"]
_AFTER = "/query/after"
_EXAMPLE = {
    "by hand": {"summary": "Two who wrote a letter", "value": {"addresses": ["ann@example.org", "bob@example.net"]}}
}
RecipientId = Annotated[UUID, Path(description="`recipient` in the list, which is a contact's `id`")]


class NewUnsubscriptions(BaseModel):
    """Who is to get no mailing any more."""

    model_config = ConfigDict(extra="forbid")

    addresses: list[Address] = Field(
        min_length=1, max_length=ADDRESSES_LIMIT, description="contacts or not; case does not count"
    )


class UnsubscriptionQuery(BaseModel):
    """Which page of which unsubscriptions."""

    model_config = ConfigDict(extra="forbid")

    address: Address | None = Field(default=None, description="whether this one gets none")
    mailing_id: UUID | None = Field(default=None, description="those who used a link of this mailing")
    limit: int = Field(default=100, ge=1, le=1000, description="of a page")
    after: str | None = Field(default=None, max_length=1000, description="`next` of the page before")


class UnsubscriptionView(BaseModel):
    """Somebody who gets no mailing."""

    recipient: UUID = Field(description="of a contact: its `id`; it gives no address away")
    address: str | None = Field(default=None, description="where a contact has it", examples=["ann@example.org"])
    mailing_id: UUID | None = Field(default=None, description="whose link was used; absent: by hand")
    source: Source = Field(description="one-click: in a mail program; page: in a browser; manual: here")
    unsubscribed_at: datetime


class UnsubscriptionPage(BaseModel):
    """Unsubscriptions, newest first; `next` where there are more."""

    data: list[UnsubscriptionView]
    next: str | None = None


class UnsubscriptionReport(BaseModel):
    """What came of it."""

    added: int = Field(description="those who got mailings until now", examples=[2])
    known: int = Field(description="those who got none already", examples=[0])


def setup_unsubscriptions(app: FastAPI, keys: KeyLookup, store: UnsubscriptionStore) -> None:
    """Add the routes."""
    _setup_list(app, keys, store)
    _setup_changes(app, keys, store)


def _setup_list(app: FastAPI, keys: KeyLookup, store: UnsubscriptionStore) -> None:
    @app.get(
        PATH,
        tags=_TAG,
        summary="Who gets no mailing any more, newest first",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 422, 503),
    )
    async def list_unsubscriptions(
        request: Request, query: Annotated[UnsubscriptionQuery, Query()]
    ) -> UnsubscriptionPage:
        """The account's unsubscriptions. They outlive contacts: one that was erased stays unsubscribed, by a hash."""
        key = await authenticate(request, keys, _SCOPE)
        if query.address:
            found = await store.find(key.account, identify_recipient(key.account, query.address))
            return UnsubscriptionPage(data=[_show(found)] if found else [])
        mark = mark_list(key.account, str(query.mailing_id or ""))
        after = read_time_cursor(query.after, _AFTER, mark) if query.after else None
        page = await store.list_page(key.account, query.mailing_id, after, query.limit + 1)
        shown, last = page[: query.limit], page[query.limit - 1 : query.limit]
        more = len(page) > query.limit
        end = write_time_cursor(last[0].unsubscribed_at, last[0].recipient, mark) if more else None
        return UnsubscriptionPage(data=list(map(_show, shown)), next=end)


def _setup_changes(app: FastAPI, keys: KeyLookup, store: UnsubscriptionStore) -> None:
    @app.post(
        PATH,
        tags=_TAG,
        summary="Unsubscribe addresses by hand",
        responses=describe_problems(401, 403, 422, 503),
        openapi_extra=describe_body({"application/json": (NewUnsubscriptions, _EXAMPLE)}),
    )
    async def add_unsubscriptions(request: Request) -> UnsubscriptionReport:
        """For people who said so by letter, or elsewhere before you came here. Up to 1,000 addresses at once."""
        key = await authenticate(request, keys, _SCOPE)
        wanted = await read_model(request, NewUnsubscriptions)
        _refuse_test_key(key)
        recipients = {identify_recipient(key.account, address) for address in wanted.addresses}
        added = await store.add(key.account, list(recipients), Source.MANUAL)
        UNSUBSCRIPTIONS.labels(source=Source.MANUAL).inc(added)
        return UnsubscriptionReport(added=added, known=len(recipients) - added)

    @app.delete(
        f"{PATH}/{{recipient}}",
        tags=_TAG,
        summary="Let somebody get mailings again",
        status_code=204,
        responses=describe_problems(401, 403, 404, 422, 503),
    )
    async def remove_unsubscription(request: Request, recipient: RecipientId) -> Response:
        """For somebody who asked for it himself. Mailings that begin or go on from now on are for him, too."""
        key = await authenticate(request, keys, _SCOPE)
        _refuse_test_key(key)
        if not await store.remove(key.account, recipient):
            raise Problem(404, "not-found", "Nobody of this id is unsubscribed in your account.")
        return Response(status_code=204)


def _refuse_test_key(key: ApiKey) -> None:
    if key.test:
        raise Problem(403, "test-key", "With a test key nobody is unsubscribed, nor subscribed again.")


def _show(found: Unsubscription) -> UnsubscriptionView:
    return UnsubscriptionView(
        recipient=found.recipient,
        address=found.address,
        mailing_id=found.mailing,
        source=found.source,
        unsubscribed_at=found.unsubscribed_at,
    )
