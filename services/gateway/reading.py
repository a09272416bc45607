"""The routes by which a mail is looked up."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from fastapi import FastAPI, Request

from services.gateway.answers import Email, Timeline
from services.gateway.buckets import read_time
from services.gateway.store import ReadModel, Row
from services.gateway.views import show_email, show_timeline
from shared.access import ApiScope, KeyLookup
from shared.apidocs import describe_problems
from shared.authenticating import authenticate
from shared.database import DatabaseUnavailable
from shared.problems import Problem

_POLLS_S = (0.02, 0.05, 0.1, 0.2)
_OLD = timedelta(minutes=10)  # an id minted longer ago has been projected, or never will be
_PROBLEMS = describe_problems(401, 403, 404, 422, 503)


def setup_reading(app: FastAPI, keys: KeyLookup, emails: ReadModel) -> None:
    """Add `GET /v1/emails/{id}` and its timeline."""

    @app.get(
        "/v1/emails/{email_id}",
        tags=["Emails"],
        summary="Status of a mail",
        response_model_exclude_none=True,
        responses=_PROBLEMS,
    )
    async def read_email(email_id: UUID, request: Request) -> Email:
        """Status, and for each recipient the last thing known, with the relay's own words.

        Right after its 202 a mail may take a moment to appear; the request waits up to 2 s for it.
        """
        return show_email(await _find(request, keys, emails, email_id))

    @app.get(
        "/v1/emails/{email_id}/events",
        tags=["Emails"],
        summary="Timeline of a mail",
        response_model_exclude_none=True,
        responses=_PROBLEMS,
    )
    async def read_timeline(email_id: UUID, request: Request) -> Timeline:
        """Everything that happened to the mail, in order: accepted, deferred, sent, failed, cancelled."""
        row = await _find(request, keys, emails, email_id)
        try:
            lines = await emails.list_events(row["bucket"], row["id"])
        except DatabaseUnavailable as exc:
            raise _unavailable() from exc
        return show_timeline(row, lines)


async def _find(request: Request, keys: KeyLookup, emails: ReadModel, email_id: UUID) -> Row:
    """The account's own mail. Raises Problem 401, 403, 404, 503."""
    key = await authenticate(request, keys, ApiScope.EMAILS_READ)
    try:
        return await find_own_email(emails, email_id, key.account)
    except DatabaseUnavailable as exc:
        raise _unavailable() from exc


async def find_own_email(emails: ReadModel, email_id: UUID, account: str) -> Row:
    """The account's own mail. Raises Problem 404, DatabaseUnavailable."""
    row = await _wait_for(emails, email_id)
    if row is None or row["account"] != account:
        raise Problem(404, "email-not-found", "There is no mail with this id in this account.")
    return row


async def _wait_for(emails: ReadModel, email_id: UUID) -> Row | None:
    minted_at = read_time(email_id)
    patience_s = 0.0 if minted_at and datetime.now(UTC) - minted_at > _OLD else emails.patience_s
    deadline = time.monotonic() + patience_s
    attempt = 0
    while True:
        row = await emails.find_email(email_id)
        if row or time.monotonic() >= deadline:
            return row
        await asyncio.sleep(_POLLS_S[min(attempt, len(_POLLS_S) - 1)])
        attempt += 1


def _unavailable() -> Problem:
    return Problem(503, "unavailable", "PostgreSQL is away; mails are accepted, their status cannot be read.")
