"""The route by which mails are listed."""

from typing import Annotated

from fastapi import FastAPI, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from services.gateway.answers import EmailPage
from services.gateway.list_store import ListStore
from services.gateway.lists import ListFilter, choose_list
from services.gateway.views import show_item
from shared.access import ApiScope, KeyLookup
from shared.addresses import check_address, fold_domain
from shared.apidocs import describe_problems
from shared.authenticating import authenticate
from shared.events.requested import Reference, Tag
from shared.events.wire import Instant
from shared.states import MailStatus

_SINCE, _UNTIL = "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"
Recipient = Annotated[
    str, StringConstraints(max_length=400), AfterValidator(check_address), AfterValidator(fold_domain)
]


class Span(BaseModel):
    """A range of time; both ends with a time zone."""

    model_config = ConfigDict(extra="forbid")

    from_: Instant | None = Field(
        default=None, alias="from", description="mails that Kafka has held since this moment", examples=[_SINCE]
    )
    to: Instant | None = Field(default=None, description="and before this moment", examples=[_UNTIL])


class ListQuery(Span):
    """What `GET /v1/emails` may be asked for."""

    status: MailStatus | None = None
    recipient: Recipient | None = Field(
        default=None, description="an address of to, cc or bcc; the case of its domain does not count"
    )
    tag: Tag | None = None
    mailing_id: Reference | None = None
    batch_id: Reference | None = None
    api_key_id: Reference | None = Field(default=None, description="the key that the mail was posted with")
    limit: int = Field(default=50, ge=1, le=200, description="mails of a page")
    after: str | None = Field(default=None, max_length=1000, description="`next` of the page before")


def setup_listing(app: FastAPI, keys: KeyLookup, store: ListStore) -> None:
    """Add `GET /v1/emails`."""

    @app.get(
        "/v1/emails",
        tags=["Emails"],
        summary="Mails, newest first",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 422, 503),
    )
    async def list_emails(query: Annotated[ListQuery, Query()], request: Request) -> EmailPage:
        """The account's mails by the time Kafka has held them, newest first, of at most one filter.

        While `next` is there, there are more: ask again with it as `after`, and nothing else changed. Pages stay true
        while mails come and go; how many there are in all is not counted here (`GET /v1/stats` does). Mails are kept
        for 90 days after the last thing that happened to them.
        """
        key = await authenticate(request, keys, ApiScope.EMAILS_READ)
        wanted = choose_list(
            key.account, {each: getattr(query, each.value) for each in ListFilter}, query.from_, query.to
        )
        after = wanted.read_cursor(query.after) if query.after else wanted.start
        rows = await store.read_page(wanted, after, query.limit + 1)
        shown = rows[: query.limit]
        more = wanted.write_cursor(shown[-1]["created_at"], shown[-1]["id"]) if len(rows) > query.limit else None
        return EmailPage(data=[show_item(row) for row in shown], next=more)
