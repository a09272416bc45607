"""`POST /v1/emails/bulk`: one content for up to 1,000 recipients, each a mail of its own."""

from datetime import datetime
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response

from services.gateway.accepting import Acceptor
from services.gateway.acknowledging import MAIL_UNKNOWN, explain
from services.gateway.answers import BatchAccepted
from services.gateway.bulk_form import Entry, Filling, NewBulk, check_names, compose_bulk, divide, read_bulk_form
from services.gateway.examples import BULK_EXAMPLES
from services.gateway.idempotency import Idempotency, StillOpen, find_moment
from services.gateway.telling import answer, show_end
from services.gateway.templates import StoredTemplate, TemplateLookup
from shared.access import ApiKey, ApiScope, KeyLookup
from shared.apidocs import IDEMPOTENCY_KEY, describe_body, describe_once
from shared.authenticating import authenticate, take_mails
from shared.bodies import read_object
from shared.composing.attachments import AttachmentRules
from shared.composing.composer import Identity, TooLarge
from shared.composing.refusing import compose
from shared.events import EmailRequested
from shared.problems import Problem, invalid_content
from shared.publisher import PublishError
from shared.tracing import SpanKind, begin_hop
from shared.turns import take_turns

_TURN_S = 0.005  # between recipients; single requests are not to wait for a thousand of them
_BODY = describe_body({"application/json": (NewBulk, BULK_EXAMPLES)})


class BulkLimits:
    """Bytes: of one event, and of all events of a request together."""

    def __init__(self, event: int, total: int) -> None:
        self.event = event
        self.total = total


def setup_bulk(
    app: FastAPI,
    keys: KeyLookup,
    acceptor: Acceptor,
    once: Idempotency,
    templates: TemplateLookup,
    rules: AttachmentRules,
    limits: BulkLimits,
) -> None:
    """Add `POST /v1/emails/bulk`."""

    @app.post(
        "/v1/emails/bulk",
        tags=["Emails"],
        summary="Send one content to up to 1,000 recipients",
        status_code=202,
        response_model=BatchAccepted,
        responses=describe_once(400, 401, 403, 413, 422, 503),
        openapi_extra=_BODY | IDEMPOTENCY_KEY,
    )
    async def send_bulk(request: Request) -> Response:
        """Subject, text and html are templates, filled in for each recipient with `name`, `address` and `variables`.

        Every recipient gets a mail of his own, with an id, a status and results of its own, and sees nobody else;
        `results` has the ids, in order. An address given twice gets two mails. It is all or nothing: 422 names each
        recipient and variable that is missing (`/recipients/3/variables/code`), and none was sent. All have the same
        `batch_id`. With `priority: bulk` they go out after all mail that is not bulk, in turn with other batches.
        413: they would be more than the limit together, or one of them alone. 429: they are more mails than the key
        may have now. 503 with `outcome: unknown`: mails may still be sent, under the ids in `results`.
        """
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND)
        fields = await read_object(request)
        send = partial(_send, request, acceptor, templates, key, fields, rules=rules, limits=limits)
        return await once.run(request, key, fields, send)


async def _send(
    request: Request,
    acceptor: Acceptor,
    templates: TemplateLookup,
    key: ApiKey,
    fields: dict[str, Any],
    identity: Identity,
    *,
    rules: AttachmentRules,
    limits: BulkLimits,
) -> Response | StillOpen:
    content, entries = await _compose(templates, key, fields, identity, rules, find_moment(request, identity))
    try:
        parts = divide(content, entries, event_limit=limits.event, total_limit=limits.total)
    except TooLarge as exc:
        raise _explain_size(exc, limits) from None
    take_mails(request, len(entries))
    hop = begin_hop("publish email.requested", SpanKind.PRODUCER, request.headers.get("traceparent"))
    messages = [
        acceptor.prepare_bulk(part.bulk_id, part.value, identity.requested_at, hop.traceparent) for part in parts
    ]
    batch_id = str(identity.id)
    try:
        ends = await acceptor.accept_all(messages, [len(part.ids) for part in parts])
    except PublishError as exc:
        hop.end(error=type(exc).__name__)
        raise explain(exc, batch_id, MAIL_UNKNOWN) from exc
    hop.end(attributes={"messaging.batch.message_count": len(messages)})
    results = [show_end(email_id, end) for part, end in zip(parts, ends, strict=True) for email_id in part.ids]
    return answer(batch_id, results, is_open=any(ends))


async def _compose(
    templates: TemplateLookup,
    key: ApiKey,
    fields: dict[str, Any],
    identity: Identity,
    rules: AttachmentRules,
    moment: datetime | None,
) -> tuple[EmailRequested, list[Entry]]:
    """The content and each recipient's part of it. Raises Problem 403, 422, 503."""
    check_names(fields)
    template: StoredTemplate | None = None
    if fields.get("template") is not None:
        template, fields = await templates.take_content(key.account, fields, moment)
    bulk = read_bulk_form(fields, template, key.only_sender)
    content = compose(lambda mail, key, identity: compose_bulk(mail, key, identity, rules), bulk, key, identity)
    filling = Filling(bulk, identity.id)
    entries: list[Entry] = []
    async for index in take_turns(range(len(bulk.recipients)), turn_s=_TURN_S):
        entries.append(filling.fill(index))
        if filling.is_hopeless:
            break
    if filling.errors:
        raise invalid_content(filling.errors)
    return content, entries


def _explain_size(exc: TooLarge, limits: BulkLimits) -> Problem:
    if exc.limit == limits.event:
        what = "One recipient with the content makes an event of"
    else:
        what = "The content is written once for as many recipients as fit into an event; together these have"
    detail = f"{what} {exc.size} bytes or more, the limit is {exc.limit}. Give smaller content, or fewer recipients."
    return Problem(413, "too-large", detail, limit=exc.limit)
