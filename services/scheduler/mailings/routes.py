"""`/v1/mailings`: making mailings, reading, changing and deleting them."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.scheduler.mailings.answers import MailingPage, MailingView, show_mailing
from services.scheduler.mailings.bodies import MailingChanges, NewMailing
from services.scheduler.mailings.commands import Mailings, find_mailing
from services.scheduler.mailings.examples import CHANGES, NEW_MAILING
from services.scheduler.mailings.mailing import MailingState
from services.scheduler.mailings.standing.answers import show_counts, show_pace
from services.scheduler.mailings.standing.store import StandingStore
from services.scheduler.mailings.store import MailingStore
from shared.access import ApiScope, KeyLookup
from shared.apidocs import describe_body, describe_problems
from shared.authenticating import authenticate
from shared.bodies import read_changes, read_model

PATH = "/v1/mailings"
SCOPE = ApiScope.MAILINGS_ADMIN
TAG: Any = ["Mailings"]
MailingId = Annotated[UUID, Path(description="the mailing's id")]
_MEANINGS = {
    403: "The key lacks the scope `mailings:admin`, may not send from that sender, or is a test key; `type` says which",
    409: "The mailing does not stand where this can be done; `state` says where it does",
}


class MailingQuery(BaseModel):
    """Which page of which mailings."""

    model_config = ConfigDict(extra="forbid")

    state: MailingState | None = Field(default=None, description="those in this state")
    limit: int = Field(default=50, ge=1, le=200, description="of a page")
    after: str | None = Field(default=None, max_length=1000, description="`next` of the page before")


def describe_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route about mailings for these statuses, with those that every one has."""
    described = describe_problems(401, 403, 422, 503, *statuses)
    for status, meaning in _MEANINGS.items():
        if status in described:
            described[status]["description"] = meaning
    return described


def setup_mailing_routes(
    app: FastAPI, keys: KeyLookup, store: MailingStore, standings: StandingStore, mailings: Mailings
) -> None:
    """Add the routes."""
    _setup_many(app, keys, mailings)
    _setup_reading(app, keys, store, standings)
    _setup_one(app, keys, mailings)


def _setup_many(app: FastAPI, keys: KeyLookup, mailings: Mailings) -> None:
    @app.post(
        PATH,
        tags=TAG,
        summary="Make a mailing",
        status_code=201,
        response_model_exclude_none=True,
        responses=describe_answers(413),
        openapi_extra=describe_body({"application/json": (NewMailing, NEW_MAILING)}),
    )
    async def create_mailing(request: Request, response: Response) -> MailingView:
        """Makes a draft: what to say, to whom, and when. Nothing leaves before `POST …/start`.

        What is no template is refused with its line, and so is one that never comes to an end. What only some
        recipients lack is no mistake of the template: `POST …/check` counts them, and their mail fails.
        """
        key = await authenticate(request, keys, SCOPE)
        mailing = await mailings.create(key, await read_model(request, NewMailing))
        response.headers["location"] = f"{PATH}/{mailing.id}"
        return show_mailing(mailing)

    @app.get(
        PATH,
        tags=TAG,
        summary="Mailings, newest first",
        response_model_exclude_none=True,
        responses=describe_answers(),
    )
    async def list_mailings(request: Request, query: Annotated[MailingQuery, Query()]) -> MailingPage:
        """The account's mailings. While `next` is there, there are more: ask again with it as `after`."""
        key = await authenticate(request, keys, SCOPE)
        found, more = await mailings.list_some(key, query.state, query.after, query.limit)
        return MailingPage(data=[show_mailing(each, with_content=False) for each in found], next=more)


def _setup_reading(app: FastAPI, keys: KeyLookup, store: MailingStore, standings: StandingStore) -> None:
    @app.get(
        f"{PATH}/{{mailing_id}}",
        tags=TAG,
        summary="One mailing",
        response_model_exclude_none=True,
        responses=describe_answers(404),
    )
    async def read_mailing(request: Request, mailing_id: MailingId) -> MailingView:
        """What it says, to whom, and how it stands: `counts` add up at any moment."""
        key = await authenticate(request, keys, SCOPE)
        mailing = await find_mailing(store, mailing_id, key)
        found = (await standings.find([mailing.id])).get(mailing.id)
        stands: dict[str, Any] = {"counts": show_counts(found)} if found else {}
        if found and found.started_at:
            stands["progress"] = show_pace(found)
        return show_mailing(mailing).model_copy(update=stands)


def _setup_one(app: FastAPI, keys: KeyLookup, mailings: Mailings) -> None:
    @app.patch(
        f"{PATH}/{{mailing_id}}",
        tags=TAG,
        summary="Change a mailing",
        response_model_exclude_none=True,
        responses=describe_answers(404, 409, 413),
        openapi_extra=describe_body({"application/json": (MailingChanges, CHANGES)}),
    )
    async def change_mailing(request: Request, mailing_id: MailingId) -> MailingView:
        """Changes what is given; the mailing as a whole has to be right.

        Of one that runs, or is paused, `name`, `rate` and `finish_at` can be changed (409 for all else): mail that has
        not left goes by them within a second.
        """
        key = await authenticate(request, keys, SCOPE)
        return show_mailing(await mailings.change(key, mailing_id, await read_changes(request)))

    @app.delete(
        f"{PATH}/{{mailing_id}}",
        tags=TAG,
        summary="Delete a mailing",
        status_code=204,
        responses=describe_answers(404, 409),
    )
    async def delete_mailing(request: Request, mailing_id: MailingId) -> Response:
        """Deletes a mailing that has not run, or whose mails all have their end. What was sent stays what it was."""
        await mailings.delete(await authenticate(request, keys, SCOPE), mailing_id)
        return Response(status_code=204)
