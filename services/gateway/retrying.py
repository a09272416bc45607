"""The routes by which mails are tried again: one by its id, or those that a filter means."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.gateway.acknowledging import answer_publish_errors
from services.gateway.answers import RetriesAccepted, RetryAccepted, RetryDone, RetryLeftOut
from services.gateway.idempotency import Idempotency
from services.gateway.reading import find_own_email
from services.gateway.replaying import ReplayUnavailable
from services.gateway.retrier import Result, Retrier, Retry
from services.gateway.retries import RetryRefused
from services.gateway.retry_store import RETRIABLE, Filter, RetryStore
from services.gateway.store import ReadModel, Row
from shared.access import ApiScope, KeyLookup
from shared.apidocs import IDEMPOTENCY_KEY, describe_body, describe_once, describe_problems
from shared.authenticating import authenticate, take_mails
from shared.bodies import read_model
from shared.composing.composer import Identity, TooLarge
from shared.cursors import read_time_cursor, write_time_cursor
from shared.database import DatabaseUnavailable
from shared.events.requested import Tag
from shared.events.wire import Instant
from shared.problems import Problem
from shared.states import FailureReason

Status = Literal["failed", "partially_sent", "expired", "unknown", "cancelled"]

_UNKNOWN = (
    "Kafka has not confirmed the retry in time. It may still be sent under this id: look there before you ask again."
)
_PROBLEMS = describe_once(400, 401, 403, 404, 409, 413, 422, 503)
_PROBLEMS[409]["description"] = "It cannot be tried again, or not now; `type` and `detail` say why"
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class RetryOptions(BaseModel):
    """How a mail is to be tried again."""

    model_config = ConfigDict(extra="forbid")

    include_unknown: bool = Field(
        default=False,
        strict=True,
        description="also recipients of whom nobody can know whether the relay has the mail already",
    )


class RetryFilter(RetryOptions):
    """Which mails are to be tried again; all that is given must hold."""

    status: list[Status] = Field(
        default=["failed", "partially_sent", "expired"],
        min_length=1,
        max_length=len(RETRIABLE),
        description="any of these; `unknown` finds only mails, `include_unknown` has them tried",
    )
    since: Instant | None = Field(default=None, description="mails that Kafka has held since, this moment included")
    until: Instant | None = Field(default=None, description="and before this moment")
    tag: Tag | None = None
    mailing_id: str | None = Field(default=None, max_length=200)
    reason: FailureReason | None = Field(default=None, description="of one of its recipients")
    limit: int = Field(default=100, ge=1, le=500, description="mails looked at in one request")
    after: str | None = Field(default=None, max_length=200, description="`next` of the answer before")


_OPTIONS_BODY = describe_body({"application/json": (RetryOptions, {})}, required=False)
_FILTER_BODY = describe_body(
    {
        "application/json": (
            RetryFilter,
            {"failed": {"summary": "All that failed of one tag", "value": {"tag": "june"}}},
        )
    },
    required=False,
)


def setup_retrying(
    app: FastAPI, keys: KeyLookup, emails: ReadModel, store: RetryStore, retrier: Retrier, once: Idempotency
) -> None:
    """Add `POST /v1/emails/{id}/retry` and `POST /v1/emails/retry`."""

    @app.post(
        "/v1/emails/retry",
        tags=["Emails"],
        summary="Try the mails of a filter again",
        status_code=202,
        responses=describe_problems(400, 401, 403, 422, 503),
        openapi_extra=_FILTER_BODY,
    )
    async def retry_many(request: Request) -> RetriesAccepted:
        """Tries up to `limit` mails again, oldest first, each as `POST /v1/emails/{id}/retry` would.

        While `next` is there, more may be found: ask again with it as `after`, and nothing else changed. Mails that
        have been retried before are passed over, for their last retry stands for them. `left_out` says of each mail
        that was not tried why. Ask again without fear where an answer was lost: what is on its way is not tried
        twice.
        """
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND)
        wanted = await read_model(request, RetryFilter)
        chosen = _read_filter(wanted, key.account)
        trace = request.headers.get("traceparent")
        with _answer_outages():
            rows = await store.choose(chosen)
            take_mails(request, len(rows))
            results = await retrier.retry(rows, key, trace, include_unknown=wanted.include_unknown)
        return _summarize(rows, results, chosen.limit)

    @app.post(
        "/v1/emails/{email_id}/retry",
        tags=["Emails"],
        summary="Try a mail again",
        status_code=202,
        response_model=RetryAccepted,
        responses=_PROBLEMS,
        openapi_extra=_OPTIONS_BODY | IDEMPOTENCY_KEY,
    )
    async def retry_one(email_id: UUID, request: Request) -> Response:
        """Sends the mail anew, under a new id with `retry_of`, to those recipients the relay has not taken it for.

        The content is read from Kafka, for as long as that holds it (409 `aged-out` after that). `send_at` is left
        out; a mail that was given a time to live gets as much again. The mail must have come to its end; while a
        retry of it is on its way, another one answers 409 `retry-in-progress` with its id as `retry_id`. Recipients
        whose outcome is unknown are left out unless `include_unknown` says otherwise: they may get the mail twice.
        """
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND)
        options = await read_model(request, RetryOptions)
        trace = request.headers.get("traceparent")

        async def retry(_: Identity) -> Response:  # the family of the mail sees to it that two are not on their way
            with _answer_outages():
                row = await find_own_email(emails, email_id, key.account)
                take_mails(request)
                results = await retrier.retry([row], key, trace, include_unknown=options.include_unknown)
            return _answer(email_id, results[row["id"]])

        return await once.run(request, key, options.model_dump(), retry)


def _read_filter(wanted: RetryFilter, account: str) -> Filter:
    return Filter(
        account=account,
        statuses=tuple(wanted.status),
        since=wanted.since or _FIRST,
        until=wanted.until or _LAST,
        after=read_time_cursor(wanted.after, "/after") if wanted.after else (_FIRST, UUID(int=0)),
        tag=wanted.tag,
        mailing_id=wanted.mailing_id,
        reason=wanted.reason,
        limit=wanted.limit,
    )


@contextmanager
def _answer_outages() -> Iterator[None]:
    """PostgreSQL or Kafka away while nothing has been published yet."""
    try:
        yield
    except DatabaseUnavailable as exc:
        raise Problem(503, "unavailable", "PostgreSQL is away; what happened to mails cannot be read.") from exc
    except ReplayUnavailable as exc:
        detail = "Kafka is away; the mail's content cannot be read. Nothing was written; try again."
        raise Problem(503, "kafka-unavailable", detail, outcome="refused") from exc


def _answer(email_id: UUID, result: Result) -> Response:
    """The 202 of one retry. Raises Problem."""
    if isinstance(result, RetryRefused):
        status = 403 if result.slug in ("sender-not-allowed", "test-key") else 409
        extra: dict[str, Any] = {"retry_id": str(result.retry_id)} if result.retry_id else {}
        raise Problem(status, result.slug, result.detail, id=str(email_id), **extra)
    _raise_error(result)
    body = RetryAccepted(
        id=result.new_id, status="queued", retry_of=email_id, recipients=len(result.mail.recipients)
    ).model_dump_json()
    headers = {"location": f"/v1/emails/{result.new_id}"}
    return Response(body, 202, headers, "application/json")


def _raise_error(result: Retry) -> None:
    if result.error is None:
        return
    with answer_publish_errors(result.new_id, _UNKNOWN):
        try:
            raise result.error
        except TooLarge as exc:
            detail = f"As an event the mail has {exc.size} bytes; the limit is {exc.limit} now."
            raise Problem(413, "too-large", detail, limit=exc.limit) from None


def _summarize(rows: list[Row], results: dict[UUID, Result], limit: int) -> RetriesAccepted:
    done: list[RetryDone] = []
    left_out: list[RetryLeftOut] = []
    for row in rows:
        result = results[row["id"]]
        try:
            _answer(row["id"], result)
        except Problem as problem:
            left_out.append(_leave_out(row["id"], problem))
        else:
            assert isinstance(result, Retry)
            done.append(RetryDone(id=result.new_id, retry_of=row["id"], recipients=len(result.mail.recipients)))
    more = write_time_cursor(rows[-1]["created_at"], rows[-1]["id"]) if len(rows) == limit else None
    return RetriesAccepted(count=len(done), retried=done, left_out=left_out, next=more)


def _leave_out(email_id: UUID, problem: Problem) -> RetryLeftOut:
    named: Any = problem.extra.get("retry_id") or (problem.extra.get("id") if problem.status == 503 else None)
    return RetryLeftOut(id=email_id, why=problem.slug, detail=problem.detail, retry_id=named)
