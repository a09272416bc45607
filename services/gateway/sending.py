"""The routes by which a mail comes in."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from fastapi import FastAPI, Request, Response

from services.gateway.accepting import Acceptor, TooLarge
from services.gateway.acknowledging import answer_publish_errors
from services.gateway.answers import Accepted
from services.gateway.attachments import AttachmentRules
from services.gateway.bodies import NewEmail, SimpleEmail, read_fields, read_full, read_object, read_simple
from services.gateway.composing import SenderNotAllowed, UnacceptableFields, compose_full, compose_simple
from services.gateway.examples import FORM_EXAMPLES, FULL_EXAMPLES, SIMPLE_EXAMPLES
from shared.access import ApiKey, ApiScope, KeyLookup
from shared.apidocs import describe_body, describe_problems
from shared.events import EmailRequested
from shared.problems import Problem, invalid_content
from shared.tracing import continue_trace
from shared.web import Endpoint, authenticate, take_mails

Mail = TypeVar("Mail")

_QUEUED = b'{"id":"%b","status":"queued"}'
_UNKNOWN = (
    "Kafka has not confirmed the mail in time. It may still be sent under this id: look there before you send it again."
)
_LARGE_HTML = 20_000  # characters; deriving the text of more than that would hold up other requests
_PROBLEMS = describe_problems(400, 401, 403, 413, 422, 503)
_SIMPLE_BODY = describe_body(
    {
        "application/json": (SimpleEmail, SIMPLE_EXAMPLES),
        "application/x-www-form-urlencoded": (SimpleEmail, FORM_EXAMPLES),
        "multipart/form-data": (SimpleEmail, {}),
    }
)
_FULL_BODY = describe_body({"application/json": (NewEmail, FULL_EXAMPLES)})


def setup_sending(app: FastAPI, keys: KeyLookup, acceptor: Acceptor, rules: AttachmentRules) -> dict[str, Endpoint]:
    """Add `POST /email/` (and `/email`) and `POST /v1/emails`. Returned, by path: what may serve them (HotPosts).

    FastAPI's own routes are for the documentation, and for other methods on these paths.
    """
    compose_with_rules = partial(compose_full, rules=rules)

    @app.post(
        "/email/",
        tags=["Emails"],
        summary="Send a mail (simple form)",
        status_code=202,
        response_model=Accepted,
        responses=_PROBLEMS,
        openapi_extra=_SIMPLE_BODY,
    )
    @app.post("/email", include_in_schema=False)
    async def send_simple(request: Request) -> Response:
        """Takes JSON or a form. 202 says that Kafka holds the mail, and nothing less.

        Without `text_content` the text part is derived from the HTML. The API key is `token`, or the Authorization
        header's.
        """
        fields = await read_fields(request)
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND, token=_read_token(fields))
        mail = read_simple(fields)
        if mail.text_content or len(mail.html_content) < _LARGE_HTML:
            event = _compose(compose_simple, mail, key)
        else:
            event = await asyncio.to_thread(_compose, compose_simple, mail, key)
        return await _accept(request, acceptor, event)

    @app.post(
        "/v1/emails",
        tags=["Emails"],
        summary="Send a mail",
        status_code=202,
        response_model=Accepted,
        responses=_PROBLEMS,
        openapi_extra=_FULL_BODY,
    )
    async def send_full(request: Request) -> Response:
        """Takes everything a mail may have: cc, bcc, headers, attachments, templates, times, callback, tags.

        With `variables`, subject, text and html are templates; they are rendered once now, to find mistakes, and for
        good when the mail is sent. `from` may be left out where the key has exactly one sender.
        """
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND)
        mail = read_full(await read_object(request), key.only_sender)
        return await _accept(request, acceptor, _compose(compose_with_rules, mail, key))

    return {"/v1/emails": send_full, "/email/": send_simple, "/email": send_simple}


def _read_token(fields: dict[str, object]) -> str | None:
    token = fields.get("token")
    return token if isinstance(token, str) else None


def _compose(compose: Callable[[Mail, ApiKey], EmailRequested], mail: Mail, key: ApiKey) -> EmailRequested:
    try:
        return compose(mail, key)
    except SenderNotAllowed as exc:
        detail = "is not among the senders of this API key"
        errors = [{"detail": detail, "pointer": f"/{exc.field}"}]
        raise Problem(403, "sender-not-allowed", f"{exc.field} {detail}.", errors=errors) from None
    except UnacceptableFields as exc:
        raise invalid_content(exc.errors) from None


async def _accept(request: Request, acceptor: Acceptor, event: EmailRequested) -> Response:
    assert event.id is not None
    take_mails(request)
    try:
        with answer_publish_errors(event.id, _UNKNOWN):
            email_id = await acceptor.accept(event, continue_trace(request.headers.get("traceparent")))
    except TooLarge as exc:
        detail = f"A mail may have at most {exc.limit} bytes as an event, everything included; this has {exc.size}."
        raise Problem(413, "too-large", detail, limit=exc.limit) from None
    headers = {"location": f"/v1/emails/{email_id}"}
    return Response(_QUEUED % str(email_id).encode(), 202, headers, "application/json")
