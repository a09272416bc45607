"""The routes by which a mail comes in."""

import asyncio
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response

from services.gateway.accepting import Acceptor
from services.gateway.acknowledging import MAIL_UNKNOWN, answer_publish_errors
from services.gateway.answers import Accepted
from services.gateway.bodies import SimpleEmail, read_fields, read_simple
from services.gateway.composing import compose_simple
from services.gateway.examples import FORM_EXAMPLES, FULL_EXAMPLES, SIMPLE_EXAMPLES
from services.gateway.idempotency import Idempotency, find_moment
from services.gateway.templates import TemplateLookup
from shared.access import ApiKey, ApiScope, KeyLookup
from shared.apidocs import IDEMPOTENCY_KEY, describe_body, describe_once
from shared.authenticating import authenticate, take_mails
from shared.bodies import read_object
from shared.composing.attachments import AttachmentRules
from shared.composing.composer import Identity, TooLarge, compose_full
from shared.composing.forms import FREE_FIELDS, NewEmail, read_full
from shared.composing.refusing import compose, explain_size
from shared.events import EmailRequested
from shared.middlewares import Endpoint

_QUEUED = b'{"id":"%b","status":"queued"}'
_LARGE_HTML = 20_000  # characters; deriving the text of more than that would hold up other requests
_ANSWERS = describe_once(400, 401, 403, 413, 422, 503)
_SIMPLE_BODY = describe_body(
    {
        "application/json": (SimpleEmail, SIMPLE_EXAMPLES),
        "application/x-www-form-urlencoded": (SimpleEmail, FORM_EXAMPLES),
        "multipart/form-data": (SimpleEmail, {}),
    }
)
_FULL_BODY = describe_body({"application/json": (NewEmail, FULL_EXAMPLES)})


def setup_sending(
    app: FastAPI,
    keys: KeyLookup,
    acceptor: Acceptor,
    once: Idempotency,
    templates: TemplateLookup,
    rules: AttachmentRules,
) -> dict[str, Endpoint]:
    """Add `POST /email/` (and `/email`) and `POST /v1/emails`. Returned, by path: what may serve them (HotPosts).

    FastAPI's own routes are for the documentation, and for other methods on these paths.
    """

    @app.post(
        "/email/",
        tags=["Emails"],
        summary="Send a mail (simple form)",
        status_code=202,
        response_model=Accepted,
        responses=_ANSWERS,
        openapi_extra=_SIMPLE_BODY | IDEMPOTENCY_KEY,
    )
    @app.post("/email", include_in_schema=False)
    async def send_simple(request: Request) -> Response:
        """Takes JSON or a form. 202 says that Kafka holds the mail, and nothing less.

        Without `text_content` the text part is derived from the HTML. The API key is `token`, or the Authorization
        header's.
        """
        fields = await read_fields(request)
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND, token=_read_token(fields))
        return await once.run(request, key, fields, partial(_send_simple, request, acceptor, key, fields))

    @app.post(
        "/v1/emails",
        tags=["Emails"],
        summary="Send a mail",
        status_code=202,
        response_model=Accepted,
        responses=_ANSWERS,
        openapi_extra=_FULL_BODY | IDEMPOTENCY_KEY,
    )
    async def send_full(request: Request) -> Response:
        """Takes everything a mail may have: cc, bcc, headers, attachments, templates, times, callback, tags.

        With `variables`, subject, text and html are templates; they are rendered once now, to find mistakes, and for
        good when the mail is sent. With `template` they are a stored template's, which goes whole into the event;
        `variables` fill it in, and its defaults stand in for those left out. `from` may be left out where the key has
        exactly one sender.
        """
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND)
        fields = await read_object(request, free=FREE_FIELDS)
        send = partial(_send_full, request, acceptor, templates, key, fields, rules=rules)
        return await once.run(request, key, fields, send)

    return {"/v1/emails": send_full, "/email/": send_simple, "/email": send_simple}


def _read_token(fields: dict[str, object]) -> str | None:
    token = fields.get("token")
    return token if isinstance(token, str) else None


async def _send_simple(
    request: Request, acceptor: Acceptor, key: ApiKey, fields: dict[str, Any], identity: Identity
) -> Response:
    mail = read_simple(fields)
    if mail.text_content or len(mail.html_content) < _LARGE_HTML:
        event = compose(compose_simple, mail, key, identity)
    else:
        event = await asyncio.to_thread(compose, compose_simple, mail, key, identity)
    return await _accept(request, acceptor, event)


async def _send_full(
    request: Request,
    acceptor: Acceptor,
    templates: TemplateLookup,
    key: ApiKey,
    fields: dict[str, Any],
    identity: Identity,
    *,
    rules: AttachmentRules,
) -> Response:
    if "template" in fields:
        fields = await templates.resolve(key.account, fields, find_moment(request, identity))
    mail = read_full(fields, key.only_sender)
    return await _accept(request, acceptor, compose(partial(compose_full, rules=rules), mail, key, identity))


async def _accept(request: Request, acceptor: Acceptor, event: EmailRequested) -> Response:
    assert event.id is not None
    take_mails(request)
    try:
        with answer_publish_errors(event.id, MAIL_UNKNOWN):
            email_id = await acceptor.accept(event, request.headers.get("traceparent"))
    except TooLarge as exc:
        raise explain_size(exc) from None
    headers = {"location": f"/v1/emails/{email_id}"}
    return Response(_QUEUED % str(email_id).encode(), 202, headers, "application/json")
