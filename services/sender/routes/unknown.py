"""/v1/unknown: mail of which nobody can know whether the relay has it, and what an operator decides on it."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import FastAPI, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.sender.routes.operators import AFTER_POINTER, After, Authorize, Limit, find_end, sign
from services.sender.settling import NOTE_LIMIT, Intent, find_refusal, pick_relay
from services.sender.store import Filter, HeldMail, UnknownStore
from shared.apidocs import describe_problems
from shared.cursors import read_time_cursor, write_time_cursor
from shared.events.requested import Account, HeaderText
from shared.problems import Problem

_MANY = 1000  # decided on in one request
Note = Annotated[HeaderText, StringConstraints(max_length=NOTE_LIMIT)]
RelayName = Annotated[HeaderText, StringConstraints(min_length=1, max_length=300)]
Seconds = Annotated[float, Field(ge=0, le=10_000_000)]
EmailId = Annotated[UUID, Path(description="the mail's id")]


class UnknownRecipient(BaseModel):
    """What the ledger knows of one recipient."""

    address: str
    state: str
    attempt: int
    at: datetime
    text: str = Field(default="", description="the relay's words, or ours")
    relay: str = ""


class UnknownMail(BaseModel):
    """A mail that waits for an operator."""

    id: UUID
    account: str
    message_id: str = Field(description="what to look for in the relay's log")
    relay: str = Field(description="the one that may have it")
    attempt: int
    unknowns: int = Field(description="how often its outcome has been unknown")
    accepted_at: datetime
    since: datetime = Field(description="waiting since")
    expires_at: datetime = Field(description="then it ends as failed, reason unknown")
    deciding: Intent | None = Field(default=None, description="decided on; a sender is about to act on it")
    recipients: list[UnknownRecipient]


class UnknownPage(BaseModel):
    """Mails that wait, oldest first; `next` where there may be more."""

    data: list[UnknownMail]
    next: str | None = None


class Settlement(BaseModel):
    """What an operator has found out."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["sent", "failed"]
    note: Note = Field(default="", description="stands in the result event, so recipients' names do not belong here")


class UnknownFilter(BaseModel):
    """Which of the waiting mails; all that is given must hold, and something must be given."""

    model_config = ConfigDict(extra="forbid")

    account: Account | None = None
    relay: RelayName | None = None
    older_than_s: Seconds | None = Field(
        default=None, strict=True, description="waiting for at least so long; 0 means all"
    )
    limit: int = Field(default=_MANY, ge=1, le=_MANY)

    def to_filter(self) -> Filter:
        """What the store takes. Raises Problem 422 where nothing is given."""
        if self.account is None and self.relay is None and self.older_than_s is None:
            raise Problem(
                422, "filter-empty", "Give account, relay or older_than_s; `older_than_s: 0` means all that wait."
            )
        held_for = None if self.older_than_s is None else timedelta(seconds=self.older_than_s)
        return Filter(self.account, self.relay, held_for)


class SettlementOfMany(Settlement, UnknownFilter):
    """What an operator has found out about all that the filter means."""


class DecisionTaken(BaseModel):
    """A decision is written down; a sender acts on it at once, as soon as a relay is available."""

    id: UUID
    decided: Intent


class DecisionsTaken(BaseModel):
    """How many mails were decided on; where it is `limit`, ask again."""

    decided: int
    ids: list[UUID]


def setup_unknown(app: FastAPI, authorize: Authorize, store: UnknownStore) -> None:
    """Add the routes."""
    _setup_reading(app, authorize, store)
    _setup_deciding(app, authorize, store)
    _setup_deciding_on_many(app, authorize, store)


def _setup_reading(app: FastAPI, authorize: Authorize, store: UnknownStore) -> None:
    @app.get(
        "/v1/unknown",
        tags=["Unknown outcomes"],
        summary="Mail that waits for an operator",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 422, 503),
    )
    async def list_unknown(
        request: Request,
        account: Account | None = None,
        relay: RelayName | None = None,
        older_than_s: Annotated[Seconds | None, Query(description="waiting for at least so long")] = None,
        after: After = None,
        limit: Limit = 100,
    ) -> UnknownPage:
        """List mails whose outcome is unknown and that are not sent again by themselves, oldest first."""
        await authorize(request)
        held_for = None if older_than_s is None else timedelta(seconds=older_than_s)
        position = read_time_cursor(after, AFTER_POINTER) if after else None
        found = await store.list_held(Filter(account, relay, held_for), position, limit)
        end = find_end(found, limit)
        return UnknownPage(
            data=[_show(each) for each in found], next=write_time_cursor(end.accepted_at, end.id) if end else None
        )

    @app.get(
        "/v1/unknown/{email_id}",
        tags=["Unknown outcomes"],
        summary="One of them",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 404, 422, 503),
    )
    async def read_unknown(request: Request, email_id: EmailId) -> UnknownMail:
        """Show one mail that waits. 404: it does not wait for an operator (any more)."""
        await authorize(request)
        found = await store.find_held(email_id)
        if found is None:
            raise _not_found()
        return _show(found)


def _setup_deciding(app: FastAPI, authorize: Authorize, store: UnknownStore) -> None:
    problems = describe_problems(401, 403, 404, 409, 422, 503)

    @app.post(
        "/v1/unknown/{email_id}/resend",
        tags=["Unknown outcomes"],
        summary="Send it again",
        status_code=202,
        responses=problems,
    )
    async def resend(request: Request, email_id: EmailId) -> DecisionTaken:
        """Send it again under the same Message-ID, as its next attempt, to all whose outcome is unknown.

        They may get it twice: that is what the decision is about. Asked again, it is not sent once more. A mail whose
        account has cancelled it is not sent again (409): settle it.
        """
        key = await authorize(request)
        if await store.is_cancelled(email_id):
            raise Problem(409, "email-cancelled", "Its account has cancelled this mail; settle it instead.")
        return await _decide(store, email_id, Intent.RESEND, "", sign(key))

    @app.post(
        "/v1/unknown/{email_id}/settle",
        tags=["Unknown outcomes"],
        summary="Say what became of it",
        status_code=202,
        responses=problems,
    )
    async def settle(settlement: Settlement, request: Request, email_id: EmailId) -> DecisionTaken:
        """End it as sent or failed, for all whose outcome is unknown; the result is published like any other."""
        key = await authorize(request)
        return await _decide(store, email_id, Intent(settlement.outcome), settlement.note, sign(key))


def _setup_deciding_on_many(app: FastAPI, authorize: Authorize, store: UnknownStore) -> None:
    problems = describe_problems(401, 403, 422, 503)

    @app.post(
        "/v1/unknown/resend", tags=["Unknown outcomes"], summary="Send many again", status_code=202, responses=problems
    )
    async def resend_many(wanted: UnknownFilter, request: Request) -> DecisionsTaken:
        """Send again what the filter means and nothing was decided on yet, oldest first, up to `limit` mails."""
        key = await authorize(request)
        ids = await store.decide_on(wanted.to_filter(), Intent.RESEND, "", sign(key), wanted.limit)
        return DecisionsTaken(decided=len(ids), ids=list(ids))

    @app.post(
        "/v1/unknown/settle",
        tags=["Unknown outcomes"],
        summary="Say what became of many",
        status_code=202,
        responses=problems,
    )
    async def settle_many(wanted: SettlementOfMany, request: Request) -> DecisionsTaken:
        """End what the filter means and nothing was decided on yet, oldest first, up to `limit` mails."""
        key = await authorize(request)
        intent = Intent(wanted.outcome)
        ids = await store.decide_on(wanted.to_filter(), intent, wanted.note, sign(key), wanted.limit)
        return DecisionsTaken(decided=len(ids), ids=list(ids))


async def _decide(store: UnknownStore, email_id: UUID, intent: Intent, note: str, by: str) -> DecisionTaken:
    if not await store.decide(email_id, intent, note, by):
        refusal = find_refusal(await store.find_decided(email_id), intent)
        if refusal:
            raise Problem(404 if refusal.slug == "not-found" else 409, refusal.slug, refusal.detail)
    return DecisionTaken(id=email_id, decided=intent)


def _not_found() -> Problem:
    return Problem(404, "not-found", "No such mail waits for an operator.")


def _show(mail: HeldMail) -> UnknownMail:
    recipients: list[dict[str, Any]] = mail.results
    return UnknownMail.model_validate(
        {
            "id": mail.id,
            "account": mail.account,
            "message_id": mail.message_id,
            "relay": pick_relay((each["state"], each.get("relay", "")) for each in recipients),
            "attempt": mail.attempt,
            "unknowns": mail.unknowns,
            "accepted_at": mail.accepted_at,
            "since": mail.since,
            "expires_at": mail.expires_at,
            "deciding": mail.intent,
            "recipients": recipients,
        }
    )
