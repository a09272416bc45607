"""The routes of mail that waits for its time."""

from datetime import datetime
from enum import Enum
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from services.scheduler.waiting.delayed import DelayedState
from services.scheduler.waiting.view_store import WaitingStore
from services.scheduler.waiting.views import Change, ScheduledMail, carry_out, choose_list
from shared.access import ApiScope
from shared.apidocs import add_schemas, describe_body, describe_problems
from shared.applications import DatabaseApi
from shared.authenticating import authenticate
from shared.bodies import read_model
from shared.events.wire import Instant
from shared.problems import Problem

_ID = "01a2b3c4-d5e6-7f80-9a1b-2c3d4e5f6071"
_SINCE, _UNTIL = "2030-01-01T00:00:00Z", "2030-02-01T00:00:00Z"
_NINE, _TEN = "2030-01-31T09:00:00Z", "2030-01-31T10:00:00Z"
_TAGS: list[str | Enum] = ["Scheduled"]
EmailId = Annotated[UUID, Path(description="the mail's id, as its 202 gave it")]


class ScheduledLinks(BaseModel):
    """Where to read on."""

    self: str = Field(examples=[f"/v1/scheduled/{_ID}"])
    email: str | None = Field(default=None, description="all that is known of the mail", examples=[f"/v1/emails/{_ID}"])


class ScheduledEmail(BaseModel):
    """A mail that the scheduler holds or held."""

    id: UUID = Field(examples=[_ID])
    state: DelayedState = Field(description="releasing: it is being handed to the senders")
    send_at: datetime = Field(description="when it leaves, after every change", examples=[_NINE])
    due_at: datetime = Field(description="the same as `send_at`", examples=[_NINE])
    expires_at: datetime | None = Field(
        default=None, description="where the request named one; elsewhere expiry counts from `send_at`"
    )
    created_at: datetime | None = Field(
        default=None, description="since when the scheduler has held it; not told of mail with `priority: bulk`"
    )
    rescheduled_at: datetime | None = Field(default=None, description="when `send_at` was last changed")
    released_at: datetime | None = None
    cancelled_at: datetime | None = None
    bulk_id: UUID | None = Field(default=None, description="of a bulk event, which waits whole under an id of its own")
    mail_count: int | None = Field(default=None, description="how many mails a bulk event stands for")
    links: ScheduledLinks


class ScheduledPage(BaseModel):
    """Mail that waits, soonest first."""

    data: list[ScheduledEmail]
    next: str | None = Field(default=None, description="there are more: `after` of the next request")


class ScheduledQuery(BaseModel):
    """What `GET /v1/scheduled` may be asked for."""

    model_config = ConfigDict(extra="forbid")

    state: DelayedState | None = Field(default=None, description="absent: what still waits, `pending` and `releasing`")
    from_: Instant | None = Field(
        default=None, alias="from", description="mails that leave at this moment or later", examples=[_SINCE]
    )
    to: Instant | None = Field(default=None, description="and before this moment", examples=[_UNTIL])
    limit: int = Field(default=50, ge=1, le=200, description="mails of a page")
    after: str | None = Field(default=None, max_length=1000, description="`next` of the page before")


class Reschedule(BaseModel):
    """What is to be changed of a mail that waits."""

    model_config = ConfigDict(extra="forbid")

    send_at: Instant = Field(description="the new time; one that is over means at once", examples=[_TEN])


_RESCHEDULE_BODY = describe_body(
    {"application/json": (Reschedule, {"later": {"summary": "An hour later", "value": {"send_at": _TEN}}})}
)


def setup_scheduled(api: DatabaseApi) -> None:
    """Add `/v1/scheduled`."""
    store = WaitingStore(api.database, api.lists)
    add_schemas(api.app, Reschedule)
    _setup_reading(api, store)
    _setup_changing(api, store)


def _setup_reading(api: DatabaseApi, store: WaitingStore) -> None:
    @api.app.get(
        "/v1/scheduled",
        tags=_TAGS,
        summary="Mail that waits, soonest first",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 422, 503),
    )
    async def list_scheduled(query: Annotated[ScheduledQuery, Query()], request: Request) -> ScheduledPage:
        """The account's mail by the time it leaves, soonest first; with `state` also what has left or was cancelled.

        While `next` is there, there are more: ask again with it as `after`, and nothing else changed. What was
        released or cancelled is kept for 30 days (`MILENA_DELAYED_RETENTION_DAYS`).
        """
        key = await authenticate(request, api.keys, ApiScope.EMAILS_READ)
        wanted = choose_list(key.account, query.state, query.from_, query.to)
        after = wanted.read_cursor(query.after) if query.after else wanted.start
        found = await store.read_page(wanted, after, query.limit + 1)
        shown = found[: query.limit]
        more = wanted.write_cursor(shown[-1]) if len(found) > query.limit else None
        return ScheduledPage(data=[_show(each) for each in shown], next=more)

    @api.app.get(
        "/v1/scheduled/{email_id}",
        tags=_TAGS,
        summary="Whether a mail waits",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 404, 422, 503),
    )
    async def read_scheduled(request: Request, email_id: EmailId) -> ScheduledEmail:
        """Tell whether and until when a mail waits. 404: the scheduler never held it for this account.

        This is the scheduler's own word: while a mail waits, its `send_at` here is the one that counts. Mail with
        `priority: bulk` waits until its turn has come, which may be after its `send_at`.
        """
        key = await authenticate(request, api.keys, ApiScope.EMAILS_READ)
        found = await store.find(email_id, key.account)
        if found is None:
            raise Problem(404, "not-found", "No such mail was scheduled.")
        return _show(found)


def _setup_changing(api: DatabaseApi, store: WaitingStore) -> None:
    problems = describe_problems(401, 403, 404, 409, 422, 503)
    problems[409]["description"] = "It does not wait any more; `state` says what became of it"

    @api.app.patch(
        "/v1/scheduled/{email_id}",
        tags=_TAGS,
        summary="Send it at another time",
        response_model_exclude_none=True,
        responses=problems | describe_problems(400),
        openapi_extra=_RESCHEDULE_BODY,
    )
    async def reschedule(request: Request, email_id: EmailId) -> ScheduledEmail:
        """Move a mail that waits. 200: it leaves at the new time, and at no other.

        An `expires_at` that the request named stays, so the new time must lie before it; expiry by default goes along.
        The mail's timeline has the change as `email.rescheduled`. 409: it has left, was cancelled, or has
        `priority: bulk`: that is cancelled, and sent again.
        """
        key = await authenticate(request, api.keys, ApiScope.EMAILS_SEND)
        change = await read_model(request, Reschedule)
        move = partial(store.reschedule, email_id, key.account, change.send_at)
        find = partial(store.find, email_id, key.account)
        return _show(await carry_out(Change.RESCHEDULE, move, find, change.send_at))

    @api.app.post(
        "/v1/scheduled/{email_id}/cancel",
        tags=_TAGS,
        summary="Do not send it",
        response_model_exclude_none=True,
        responses=problems,
    )
    async def cancel(request: Request, email_id: EmailId) -> ScheduledEmail:
        """Cancel a mail that waits. 200: it is not sent; `email.failed` with reason `cancelled` follows.

        That is more than the 202 of `POST /v1/emails/{id}/cancel` says, which is for mail in any state, also for one
        that nobody has seen yet. Asking twice does no harm. 409: it has left; then that one may still reach it.
        """
        key = await authenticate(request, api.keys, ApiScope.EMAILS_SEND)
        apply, find = (partial(each, email_id, key.account) for each in (store.cancel, store.find))
        return _show(await carry_out(Change.CANCEL, apply, find))


def _show(mail: ScheduledMail) -> ScheduledEmail:
    email = None if mail.bulk_id else f"/v1/emails/{mail.id}"
    return ScheduledEmail(
        id=mail.id,
        state=mail.state,
        send_at=mail.due_at,
        due_at=mail.due_at,
        expires_at=mail.expires_at,
        created_at=mail.created_at,
        rescheduled_at=mail.rescheduled_at,
        released_at=mail.released_at,
        cancelled_at=mail.cancelled_at,
        bulk_id=mail.bulk_id,
        mail_count=mail.mail_count,
        links=ScheduledLinks(self=f"/v1/scheduled/{mail.id}", email=email),
    )
