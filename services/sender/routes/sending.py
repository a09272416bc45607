"""/v1/sending: pause and resume."""

from datetime import datetime
from typing import Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from services.sender.pausing import EVERYTHING, Scope
from services.sender.routes.operators import Authorize, sign
from services.sender.store import Pause, PauseStore
from shared.apidocs import describe_problems
from shared.events.requested import Account, HeaderText, Tag
from shared.problems import invalid_content

_PROBLEMS = describe_problems(401, 403, 422, 503)
ScopeName = Literal["all", "account", "tag"]


class SendingScope(BaseModel):
    """What is meant: all mail, an account's, or an account's mail with a tag."""

    model_config = ConfigDict(extra="forbid")

    scope: ScopeName
    account: Account | None = Field(default=None, description="for `account` and `tag`; never taken from the key")
    tag: Tag | None = Field(default=None, description="for `tag`: one of the account's tags, as mails carry it")

    def to_scope(self) -> Scope:
        """Checked against each other. Raises Problem 422."""
        wanted = {"all": (), "account": ("account",), "tag": ("account", "tag")}[self.scope]
        errors = [  # what is missing, and what is too much
            {
                "detail": f"{'is needed' if name in wanted else 'does not belong'} with scope {self.scope}",
                "pointer": f"/{name}",
            }
            for name in ("account", "tag")
            if (name in wanted) != (getattr(self, name) is not None)
        ]
        if errors:
            raise invalid_content(errors)
        return Scope(self.account or "", self.tag or "")


class PauseRequest(SendingScope):
    """What is to be paused, and why."""

    reason: HeaderText = Field(default="", max_length=200, description="for whoever finds it paused")


class PauseEntry(BaseModel):
    """One pause in force."""

    scope: ScopeName
    account: str | None = None
    tag: str | None = None
    reason: str
    since: datetime
    paused_by: str = Field(description="the key's account, name and first characters")
    waiting: int = Field(
        description="mails parked for this pause, counted up to 10,000; with `all` mail waits in Kafka"
    )


class SendingState(BaseModel):
    """What is paused at this moment."""

    state: Literal["sending", "paused"] = Field(description="paused: nothing at all is sent")
    pauses: list[PauseEntry]


class SendingChange(SendingState):
    """The state after a request, and whether the request has changed it."""

    changed: bool


def setup_sending(app: FastAPI, authorize: Authorize, store: PauseStore) -> None:
    """Add the routes."""

    @app.get(
        "/v1/sending",
        tags=["Sending"],
        summary="What is paused",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 503),
    )
    async def read_sending(request: Request) -> SendingState:
        """Tell what is paused, since when and why."""
        await authorize(request)
        return SendingState(**_show(await store.list_pauses()))

    @app.post(
        "/v1/sending/pause", tags=["Sending"], summary="Pause", response_model_exclude_none=True, responses=_PROBLEMS
    )
    async def pause(wanted: PauseRequest, request: Request) -> SendingChange:
        """Send nothing more of what is meant, from a second after the answer on, until it is resumed.

        What has begun goes on to its end. Mail is accepted as before: with `all` it waits in Kafka, that of an account
        or a tag is parked, out of the way of the others; there it can still expire or be cancelled. A pause outlives
        every restart. Pausing what is paused changes nothing.
        """
        key = await authorize(request)
        changed = await store.pause(wanted.to_scope(), wanted.reason, sign(key))
        return SendingChange(changed=changed, **_show(await store.list_pauses()))

    @app.post(
        "/v1/sending/resume", tags=["Sending"], summary="Resume", response_model_exclude_none=True, responses=_PROBLEMS
    )
    async def resume(wanted: SendingScope, request: Request) -> SendingChange:
        """End exactly this pause; others stay, also those it covered. Its mail goes out in the order of its times."""
        await authorize(request)
        changed = await store.resume(wanted.to_scope())
        return SendingChange(changed=changed, **_show(await store.list_pauses()))


def _show(pauses: list[Pause]) -> dict[str, object]:
    everything = any(each.scope == EVERYTHING for each in pauses)
    return {"state": "paused" if everything else "sending", "pauses": [_to_entry(each) for each in pauses]}


def _to_entry(pause: Pause) -> PauseEntry:
    scope = pause.scope
    name: ScopeName = "tag" if scope.tag else "account" if scope.account else "all"
    return PauseEntry(
        scope=name,
        account=scope.account or None,
        tag=scope.tag or None,
        reason=pause.reason,
        since=pause.since,
        paused_by=pause.paused_by,
        waiting=pause.waiting,
    )
