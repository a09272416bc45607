"""The route by which a mail is to be stopped (R7). It publishes the wish; whoever holds the mail answers it."""

from datetime import UTC, datetime
from uuid import UUID

from fastapi import FastAPI, Request, Response

from services.gateway.accepting import SOURCE, EventPublisher
from services.gateway.acknowledging import answer_publish_errors
from services.gateway.answers import CancellationAccepted
from services.gateway.store import ReadModel, Row
from shared.access import ApiScope, KeyLookup
from shared.apidocs import describe_problems
from shared.authenticating import authenticate
from shared.events import CancellationRequested, EventType, build_headers, new_email_id
from shared.problems import Problem
from shared.producing import Message
from shared.retrying import Unavailable, answer_within
from shared.tracing import SpanKind, begin_hop

_LOOK_S = 1.5  # PostgreSQL may be away or stalled; the wish does not wait for it
_REQUESTED = b'{"id":"%b","status":"cancellation_requested"}'
_UNKNOWN = (
    "Kafka has not confirmed the cancellation in time. It may still take effect: look at the mail, "
    "or ask again, which does no harm."
)
_PROBLEMS = describe_problems(401, 403, 409, 422, 503)


def setup_cancelling(app: FastAPI, keys: KeyLookup, emails: ReadModel, publisher: EventPublisher, topic: str) -> None:
    """Add `POST /v1/emails/{id}/cancel`; `topic` is that of `email.requested`."""

    @app.post(
        "/v1/emails/{email_id}/cancel",
        tags=["Emails"],
        summary="Ask that a mail be not sent",
        status_code=202,
        response_model=CancellationAccepted,
        responses=_PROBLEMS,
    )
    async def cancel(email_id: UUID, request: Request) -> Response:
        """202 says that Kafka holds the wish, never that the mail was stopped: it may be on its way to the relay.

        What came of it, `GET /v1/emails/{id}` shows: `cancelled`, or `sent` with the cancellation in its timeline.
        Mail that waits (for `send_at`, or for its next attempt) is cancelled; what the relay has taken, or may have
        taken, is not. For an id not seen yet the wish is kept for 24 h and takes effect when the mail arrives. Asking
        twice does no harm.
        """
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND)
        await _refuse_where_final(emails, email_id, key.account)
        hop = begin_hop(
            f"publish {EventType.CANCELLATION_REQUESTED}", SpanKind.PRODUCER, request.headers.get("traceparent")
        )
        hop.end()
        wish = _build_message(email_id, key.account, topic, hop.traceparent)
        with answer_publish_errors(email_id, _UNKNOWN):
            await publisher.publish(wish)
        headers = {"location": f"/v1/emails/{email_id}"}
        return Response(_REQUESTED % str(email_id).encode(), 202, headers, "application/json")


async def _refuse_where_final(emails: ReadModel, email_id: UUID, account: str) -> None:
    """Raises Problem 409 for a mail of this account that is complete; of others' mail nothing is told.

    The read model may be behind, or away: then the wish goes out, and comes too late where it does.
    """
    row = await _look(emails, email_id)
    if row and row["account"] == account and row["complete"]:
        detail = "This mail has come to its end; it cannot be cancelled any more. `email_status` says which end."
        raise Problem(409, "already-final", detail, id=str(email_id), email_status=row["status"])


async def _look(emails: ReadModel, email_id: UUID) -> Row | None:
    """The mail's row as far as it can be had in time."""
    try:
        return await answer_within(emails.find_email(email_id), _LOOK_S)
    except Unavailable:
        return None


def _build_message(email_id: UUID, account: str, topic: str, traceparent: str) -> Message:
    headers = build_headers(EventType.CANCELLATION_REQUESTED, new_email_id(), SOURCE, datetime.now(UTC), traceparent)
    value = CancellationRequested(id=email_id, account=account).to_json()
    return Message(topic, str(email_id).encode(), value, headers)
